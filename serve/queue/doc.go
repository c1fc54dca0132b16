// Package queue hands work on studies from the server that took them in to whoever has room for it, in this process or in
// another, and keeps handing it out until it is done.
//
// [Open] starts a NATS JetStream server inside the process, which listens to nobody, or connects to a cluster: the same code
// from there on. [Queue.Publish] adds a [Task], [Queue.Work] takes tasks. A task is a reference of some hundred bytes: objects and
// results never go through the queue, so it can be lost and made again from what lies on disk.
//
// Urgent tasks ([Task.Stat]) stand in a line of their own, with workers of its own: a subject and a consumer beside those of the
// others, since JetStream hands out what it holds in the order it came.
//
// What JetStream is asked for: a stream of retention WorkQueue, one message per task at most (a subject for each, and a message
// ID that is refused for two minutes after), every message synced to disk before it is acknowledged, explicit
// acknowledgement that is itself acknowledged, a heartbeat while work lasts. How often a task is tried is not JetStream's
// to decide: its count of deliveries is not synced, so a study that ends the process could begin anew for ever. Work is told
// when to give up by the journal of the study.
package queue
