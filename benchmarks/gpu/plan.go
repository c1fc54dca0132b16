package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A section is what is proven or measured together, in the order of its value.
type section struct {
	name  string
	about string
	cases []planned
}

// planned is one measurement: a process that leaves one JSON object as the last line of its standard output.
type planned struct {
	name    string
	command []string // of $SELF, the program itself or of $SERVE, mvmae-serve
	limit   time.Duration
	env     []string
	// with runs beside it, started at the same time: the second of two processes.
	with *planned
}

// sizes are the batches of a run: large ones on a GPU, what a test bears on the CPU.
type sizes struct {
	parity                 []string       // presets
	batch                  map[string]int // of training, by preset
	warm, steps            int            // of a training case
	modelPreset            string
	modelBatches           []int
	modelRounds            int
	policies               []policy
	clients, studies, side int
}

// trainLimit is for a step's compilation, which tries many ways to do each product the first time, and a minute of steps.
const trainLimit = 5 * time.Minute

// policy is how the server batches.
type policy struct {
	batch int
	delay time.Duration
}

var onGPU = sizes{
	parity: []string{"tiny", "base"}, batch: map[string]int{"tiny": 1024, "small": 256, "base": 256}, warm: 5, steps: 25,
	modelPreset: "base", modelBatches: []int{1, 2, 8, 32, 128}, modelRounds: 20,
	policies: []policy{{1, 0}, {8, 2 * time.Millisecond}, {32, 2 * time.Millisecond}, {32, 10 * time.Millisecond}},
	clients:  32, studies: 512, side: 2048,
}

// onCPU tries every line with the CPU in the GPU's place: its figures mean nothing.
var onCPU = sizes{
	parity: []string{"nano"}, batch: map[string]int{"nano": 16}, warm: 1, steps: 3,
	modelPreset: "nano", modelBatches: []int{1, 2}, modelRounds: 3,
	policies: []policy{{1, 0}, {4, 2 * time.Millisecond}}, clients: 2, studies: 6, side: 256,
}

// plan lists the sections of a device.
func plan(device string, s sizes, presets []string) []section {
	doctor := []string{"$SERVE", "doctor", "--json", "--train", "--device", device}
	out := []section{{name: "doctor", about: "what the machine has", cases: []planned{
		{name: "doctor", command: doctor, limit: 2 * time.Minute},
	}}}
	parity := section{name: "parity", about: fmt.Sprintf("%d training steps, against the CPU's losses", paritySteps)}
	for _, preset := range s.parity {
		for _, compute := range []string{"float32", "bfloat16"} {
			parity.cases = append(parity.cases, trainCase(trainParams{
				Preset: preset, Compute: compute, Device: device, Batch: parityBatch[preset], Steps: paritySteps, Parity: true, Devices: 1,
			}, trainLimit))
		}
	}
	logits := section{name: "logits", about: "ONNX Runtime's logits, against the CPU's; the model alone, by batch"}
	for _, precision := range []string{"fp32", "fp16"} {
		logits.cases = append(logits.cases, modelCase(modelParams{s.modelPreset, precision, device, s.modelBatches, s.modelRounds}))
	}
	speed := section{name: "train", about: "images/s of the training step, against PyTorch"}
	for _, preset := range presets {
		speed.cases = append(speed.cases, speedCases(device, preset, s)...)
	}
	end := section{name: "serve", about: "studies/s through the server, by batch size and delay"}
	for _, precision := range []string{"fp32", "fp16"} {
		for _, p := range s.policies {
			end.cases = append(end.cases, serveCase(serveParams{s.modelPreset, precision, device, p.batch, p.delay.String(), s.clients, s.studies, s.side}))
		}
	}
	last := presets[len(presets)-1]
	return append(out, parity, logits, speed, end, section{
		name: "devices", about: "two devices: one process, and two of half the batch", cases: deviceCases(device, last, s),
	})
}

// speedCases are the trainer's and PyTorch's sides of one preset.
func speedCases(device, preset string, s sizes) (cases []planned) {
	for _, beforehand := range []bool{true, false} {
		for _, compute := range []string{"bfloat16", "float32"} {
			if compute == "float32" && !beforehand {
				continue
			}
			cases = append(cases, trainCase(trainParams{
				Preset: preset, Compute: compute, Device: device, Batch: s.batch[preset], Warm: s.warm, Steps: s.steps, Beforehand: beforehand, Devices: 1,
			}, trainLimit))
		}
		for _, compile := range []bool{false, true} {
			cases = append(cases, peerCase(peerParams{
				Preset: preset, Compile: compile, Half: true, Device: device, Batch: s.batch[preset], Warm: s.warm, Steps: s.steps, Beforehand: beforehand,
			}))
		}
	}
	return cases
}

// deviceCases compare one process on one device, one on two, and two processes on one each with half of the batch.
func deviceCases(device, preset string, s sizes) []planned {
	params := trainParams{Preset: preset, Compute: "bfloat16", Device: device, Batch: s.batch[preset], Warm: s.warm, Steps: s.steps, Beforehand: true, Devices: 1}
	one := trainCase(params, trainLimit)
	params.Devices = 2
	two := trainCase(params, trainLimit)
	params.Devices, params.Batch = 1, params.Batch/2
	first, second := trainCase(params, trainLimit), trainCase(params, trainLimit)
	first.env, second.env = []string{"CUDA_VISIBLE_DEVICES=0"}, []string{"CUDA_VISIBLE_DEVICES=1"}
	one.name, two.name, first.name, second.name = "one process, one device", "one process, two devices", "two processes, half the batch each: first", "second"
	first.with = &second
	for _, c := range []*planned{&one, &two, &first} {
		c.command = append(c.command, "--two-devices")
	}
	return []planned{one, two, first}
}

func caseOf(kind, name string, params any, limit time.Duration) planned {
	doc, err := json.Marshal(params)
	if err != nil {
		panic(err) // structs of numbers and names
	}
	return planned{name: name, command: []string{"$SELF", "case", kind, string(doc)}, limit: limit}
}

// named joins what tells a case from the others of its section.
func named(parts ...string) string {
	var out []string
	for _, p := range parts {
		if p != "" {
			out = append(out, p)
		}
	}
	return strings.Join(out, ", ")
}

func when(yes bool, text string) string {
	if yes {
		return text
	}
	return ""
}

func pipeline(beforehand bool) string {
	if beforehand {
		return "batches made beforehand"
	}
	return "with the input pipeline"
}

func trainCase(p trainParams, limit time.Duration) planned {
	name := named(p.Preset, p.Compute, when(!p.Parity, "XLA"), when(!p.Parity, pipeline(p.Beforehand)), when(p.Devices > 1, strconv.Itoa(p.Devices)+" devices"))
	return caseOf("train", name, p, limit)
}

func modelCase(p modelParams) planned {
	return caseOf("model", named(p.Preset, p.Precision), p, 4*time.Minute)
}

func serveCase(p serveParams) planned {
	return caseOf("serve", named(p.Preset, p.Precision, fmt.Sprintf("batch %d, delay %s", p.Batch, p.Delay)), p, 2*time.Minute)
}

func peerCase(p peerParams) planned {
	mode := "PyTorch eager"
	if p.Compile {
		mode = "PyTorch compile"
	}
	return caseOf("peer", named(p.Preset, "AMP bfloat16", mode, pipeline(p.Beforehand)), p, 5*time.Minute)
}
