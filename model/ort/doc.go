// Package ort runs model files with ONNX Runtime.
//
// Open reads a file once, makes a session of those bytes, checks that the graph is what the file's model.Metadata say, and
// runs it once so that the first request is as fast as the next. Model.Run is then safe for concurrent use: on a CPU,
// several Runs of one image with one thread each are as fast as anything else.
//
// Every error names the file or tensor and, where one is known, the cure (internal/hint). A device that was asked for and
// cannot be had is a *DeviceError: the CPU is never taken in its place unless the device is "auto".
package ort
