// Package client asks a server for what it says of studies.
//
//	c := &client.Client{URL: "http://127.0.0.1:8080"}
//	study, err := client.Files("study/")          // or a few files
//	result, err := c.Classify(ctx, study)         // at once; nothing is kept
//
//	kept, err := c.Submit(ctx, study)             // of a server with --data: taken in for good
//	kept, err = c.Wait(ctx, kept.StudyInstanceUID) // until there is a result, or a reason why there is none
//
// A server that refuses does it with an *api.Problem, whose Code is stable. What passes by itself (429, 503, 507, a server that
// does not answer) is tried again after the time that the server names, until Tries are used up or ctx ends: all requests here
// may be repeated, since the same object sent again is kept once.
package client
