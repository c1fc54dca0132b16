// Command gen writes ../gen_onnx.go from ../onnx.proto. It needs nothing installed: a Go compiler reads the messages and
// the protobuf module's own plugin, run from its source, writes the code.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/protoutil"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

const generatedFile = "gen_onnx.go"

func main() {
	code, err := generate(context.Background(), ".")
	if err == nil {
		err = os.WriteFile(generatedFile, code, 0o644)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// generate returns the Go code of onnx.proto in dir.
func generate(ctx context.Context, dir string) ([]byte, error) {
	compiler := protocompile.Compiler{
		Resolver:       &protocompile.SourceResolver{ImportPaths: []string{dir}},
		SourceInfoMode: protocompile.SourceInfoStandard, // keeps the comments
	}
	files, err := compiler.Compile(ctx, "onnx.proto")
	if err != nil {
		return nil, fmt.Errorf("compile onnx.proto: %w", err)
	}
	request, err := proto.Marshal(&pluginpb.CodeGeneratorRequest{
		FileToGenerate: []string{"onnx.proto"},
		Parameter:      proto.String("paths=source_relative"),
		ProtoFile:      []*descriptorpb.FileDescriptorProto{protoutil.ProtoFromFileDescriptor(files[0])},
	})
	if err != nil {
		return nil, err
	}
	plugin := exec.CommandContext(ctx, "go", "run", "google.golang.org/protobuf/cmd/protoc-gen-go")
	plugin.Stdin, plugin.Stderr = bytes.NewReader(request), os.Stderr
	answer, err := plugin.Output()
	if err != nil {
		return nil, fmt.Errorf("run protoc-gen-go: %w", err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(answer, &response); err != nil {
		return nil, fmt.Errorf("read protoc-gen-go's answer: %w", err)
	}
	if response.Error != nil || len(response.File) != 1 {
		return nil, errors.New("protoc-gen-go: " + response.GetError())
	}
	return []byte(response.File[0].GetContent()), nil
}
