package torch

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/mvmae/mvmae/internal/hint"
)

// ErrPickle says that a file's pickle is damaged, or made of more than tensors and plain values.
var ErrPickle = errors.New("not a pickle of plain tensors")

// CodeError says that a pickle wants to call something: to read it as Python does would run code that came with the file.
type CodeError struct{ Global string } // module and name

func (e *CodeError) Error() string { return fmt.Sprintf("a pickle that calls code: %s", e.Global) }

// Hint says how to get the tensors out, where the file is trusted.
func (e *CodeError) Hint() string {
	return "if you trust the file, save its tensors alone, in Python: safetensors.torch.save_file(torch.load(FILE)[\"model\"], \"weights.safetensors\")"
}

// The values of a pickle: nil, bool, int64, float64, string, []byte, and these.
type (
	list  struct{ items []any }
	tuple []any
	dict  struct{ values map[any]any } // keys are scalars
	// namespace is an argparse.Namespace: the options that a training program left in its checkpoint.
	namespace struct{ values map[any]any }
	global    string // an allowed function or class
	mark      struct{}
	bigInt    string // an integer of more than 8 bytes, as they lie
	// storage is one block of numbers in the file.
	storage struct {
		dtype string
		key   string
		size  int64 // numbers
	}
	// tensor is a view of a storage.
	tensor struct {
		storage storage
		offset  int64 // numbers
		dims    []int64
		strides []int64
	}
)

// storages are the classes of typed blocks, with the name safetensors has for the type.
var storages = map[global]string{
	"torch.FloatStorage": "F32", "torch.DoubleStorage": "F64", "torch.HalfStorage": "F16", "torch.BFloat16Storage": "BF16",
	"torch.LongStorage": "I64", "torch.IntStorage": "I32", "torch.ShortStorage": "I16", "torch.CharStorage": "I8",
	"torch.ByteStorage": "U8", "torch.BoolStorage": "BOOL",
}

const (
	orderedDict      global = "collections.OrderedDict"
	rebuildTensor    global = "torch._utils._rebuild_tensor_v2"
	rebuildParameter global = "torch._utils._rebuild_parameter"
	namespaceClass   global = "argparse.Namespace"
)

// allowed reports whether a pickle may name a global. Each is rebuilt here, by what its name is known to mean.
func allowed(g global) bool {
	_, isStorage := storages[g]
	return isStorage || g == orderedDict || g == rebuildTensor || g == rebuildParameter || g == namespaceClass
}

// unpickler is the stack machine of Python's pickle module (protocols 2 to 5), less every operation that looks up or calls
// what is not allowed.
type unpickler struct {
	r     *bufio.Reader
	read  int64 // bytes
	stack []any
	memo  map[uint64]any
}

// unpickle runs one pickle of r and returns its value.
func (u *unpickler) unpickle() (value any, err error) {
	defer func() {
		if r := recover(); r != nil {
			e, ok := r.(pickleError)
			if !ok {
				panic(r)
			}
			value, err = nil, e.error
		}
	}()
	u.stack, u.memo = nil, map[uint64]any{}
	for {
		op := u.bytes(1)[0]
		if op == '.' {
			return u.pop(), nil
		}
		u.step(op)
	}
}

// pickleError carries an error to unpickle's border: the machine's operations have no other way out.
type pickleError struct{ error }

func bad(format string, args ...any) {
	panic(pickleError{fmt.Errorf("%w: %s", ErrPickle, fmt.Sprintf(format, args...))})
}

// step does one operation of which the code is op. The comments name them as Python's pickletools does.
func (u *unpickler) step(op byte) {
	switch op {
	case 0x80: // PROTO
		if v := u.bytes(1)[0]; v < 2 || v > 5 {
			bad("protocol %d: want 2 to 5", v)
		}
	case 0x95: // FRAME
		u.bytes(8)
	case '(': // MARK
		u.push(mark{})
	case 'N':
		u.push(nil)
	case 0x88, 0x89: // NEWTRUE, NEWFALSE
		u.push(op == 0x88)
	case 'J', 'K', 'M', 0x8a: // BININT, BININT1, BININT2, LONG1
		u.push(u.integer(op))
	case 'G': // BINFLOAT
		u.push(math.Float64frombits(binary.BigEndian.Uint64(u.bytes(8))))
	case 'X', 0x8c, 0x8d: // BINUNICODE, SHORT_BINUNICODE, BINUNICODE8
		u.push(string(u.counted(map[byte]int{'X': 4, 0x8c: 1, 0x8d: 8}[op])))
	case 'U', 'T', 'C', 'B': // SHORT_BINSTRING, BINSTRING, SHORT_BINBYTES, BINBYTES
		u.push(u.counted(map[byte]int{'U': 1, 'T': 4, 'C': 1, 'B': 4}[op]))
	case 'q', 'r', 0x94: // BINPUT, LONG_BINPUT, MEMOIZE
		u.memo[u.slot(op)] = u.top()
	case 'h', 'j': // BINGET, LONG_BINGET
		v, ok := u.memo[u.slot(op)]
		if !ok {
			bad("a reference to nothing")
		}
		u.push(v)
	case '0': // POP
		u.pop()
	case '}', ']', ')', 't', 0x85, 0x86, 0x87, 'a', 'e', 's', 'u':
		u.container(op)
	case 'c', 0x93, 'R', 0x81, 'b', 'Q':
		u.object(op)
	default:
		bad("operation 0x%02x at byte %d", op, u.read-1)
	}
}

// container does the operations on tuples, lists and dicts.
func (u *unpickler) container(op byte) {
	switch op {
	case '}': // EMPTY_DICT
		u.push(&dict{map[any]any{}})
	case ']': // EMPTY_LIST
		u.push(&list{})
	case ')': // EMPTY_TUPLE
		u.push(tuple{})
	case 't': // TUPLE
		u.push(tuple(u.popMark()))
	case 0x85, 0x86, 0x87: // TUPLE1 to TUPLE3
		t := make(tuple, op-0x84)
		for i := range t {
			t[len(t)-1-i] = u.pop()
		}
		u.push(t)
	case 'a': // APPEND
		v := u.pop()
		l := as[*list](u.top())
		l.items = append(l.items, v)
	case 'e': // APPENDS
		items := u.popMark()
		l := as[*list](u.top())
		l.items = append(l.items, items...)
	case 's': // SETITEM
		v, k := u.pop(), u.pop()
		as[*dict](u.top()).set(k, v)
	case 'u': // SETITEMS
		items := u.popMark()
		if len(items)%2 != 0 {
			bad("a key without a value")
		}
		d := as[*dict](u.top())
		for i := 0; i < len(items); i += 2 {
			d.set(items[i], items[i+1])
		}
	}
}

func (d *dict) set(key, value any) {
	switch key.(type) {
	case nil, bool, int64, float64, string:
		d.values[key] = value
	default:
		bad("a dict with a key of type %T", key)
	}
}

// object does the operations that name and build objects: here is where Python would look up and call anything.
func (u *unpickler) object(op byte) {
	switch op {
	case 'c': // GLOBAL
		u.push(checked(u.line() + "." + u.line()))
	case 0x93: // STACK_GLOBAL
		name, module := as[string](u.pop()), as[string](u.pop())
		u.push(checked(module + "." + name))
	case 'R', 0x81: // REDUCE, NEWOBJ
		args, f := as[tuple](u.pop()), as[global](u.pop())
		u.push(build(f, args))
	case 'b': // BUILD
		state := u.pop()
		switch object := u.top().(type) {
		case *namespace:
			object.values = as[*dict](state).values
		case *dict: // the attributes of a state dict: versions of its modules
		default:
			bad("a state for a value of type %T", object)
		}
	case 'Q': // BINPERSID: torch keeps its numbers outside of the pickle
		u.push(storageOf(u.pop()))
	}
}

func checked(name string) global {
	g := global(name)
	if !allowed(g) {
		panic(pickleError{hint.Wrap(&CodeError{name}, "%s", (&CodeError{}).Hint())})
	}
	return g
}

// build makes what an allowed function or class would return.
func build(f global, args tuple) any {
	switch {
	case f == orderedDict && len(args) == 0:
		return &dict{map[any]any{}}
	case f == namespaceClass && len(args) == 0:
		return &namespace{}
	case f == rebuildTensor && len(args) >= 4: // storage, offset, size, stride, requires_grad, hooks
		t := tensor{storage: as[storage](args[0]), offset: as[int64](args[1]), dims: integers(args[2]), strides: integers(args[3])}
		if len(t.dims) != len(t.strides) {
			bad("a tensor of %d dimensions and %d strides", len(t.dims), len(t.strides))
		}
		return t
	case f == rebuildParameter && len(args) >= 1: // tensor, requires_grad, hooks
		return as[tensor](args[0])
	}
	bad("%s with %d arguments", f, len(args))
	return nil
}

// storageOf reads ("storage", class, key, location, numbers), with one more in the format before PyTorch 1.6: None.
func storageOf(id any) storage {
	t := as[tuple](id)
	if len(t) < 5 || t[0] != "storage" {
		bad("a persistent id that is no storage")
	}
	if len(t) > 5 && t[5] != nil {
		bad("a storage that is a view of another")
	}
	class := as[global](t[1])
	dtype, ok := storages[class]
	if !ok {
		bad("%s is no storage", class)
	}
	return storage{dtype: dtype, key: as[string](t[2]), size: as[int64](t[4])}
}

func integers(v any) []int64 {
	t := as[tuple](v)
	out := make([]int64, len(t))
	for i := range t {
		out[i] = as[int64](t[i])
	}
	return out
}

func as[T any](v any) T {
	x, ok := v.(T)
	if !ok {
		bad("a value of type %T where one of type %T belongs", v, x)
	}
	return x
}

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

func (u *unpickler) top() any {
	if len(u.stack) == 0 {
		bad("nothing where a value belongs")
	}
	return u.stack[len(u.stack)-1]
}

func (u *unpickler) pop() any {
	v := u.top()
	u.stack = u.stack[:len(u.stack)-1]
	return v
}

// popMark takes all values above the last mark, and the mark.
func (u *unpickler) popMark() []any {
	for i := len(u.stack) - 1; i >= 0; i-- {
		if _, ok := u.stack[i].(mark); ok {
			items := append([]any(nil), u.stack[i+1:]...)
			u.stack = u.stack[:i]
			return items
		}
	}
	bad("no mark")
	return nil
}

// maxPickle bounds a checkpoint's structure; that of the largest transformer, optimiser and all, is a few megabytes.
const maxPickle = 64 << 20

// bytes reads n bytes. It asks for no more memory than the file has bytes.
func (u *unpickler) bytes(n uint64) []byte {
	if n > uint64(maxPickle-u.read) {
		bad("more than %d bytes", maxPickle)
	}
	var b bytes.Buffer
	got, err := io.CopyN(&b, u.r, int64(n))
	u.read += got
	if err != nil {
		bad("it ends after %d bytes", u.read)
	}
	return b.Bytes()
}

func (u *unpickler) unsigned(size int) (n uint64) {
	for i, b := range u.bytes(uint64(size)) {
		n |= uint64(b) << (8 * i)
	}
	return n
}

// counted reads a length of size bytes and as many bytes as it says.
func (u *unpickler) counted(size int) []byte { return u.bytes(u.unsigned(size)) }

func (u *unpickler) slot(op byte) uint64 {
	switch op {
	case 'q', 'h':
		return u.unsigned(1)
	case 'r', 'j':
		return u.unsigned(4)
	}
	return uint64(len(u.memo)) // MEMOIZE
}

func (u *unpickler) integer(op byte) any {
	switch op {
	case 'J':
		return int64(int32(u.unsigned(4)))
	case 'K':
		return int64(u.unsigned(1))
	case 'M':
		return int64(u.unsigned(2))
	}
	raw := u.counted(1)
	if len(raw) > 8 {
		return bigInt(raw)
	}
	n := uint64(0)
	for i, b := range raw {
		n |= uint64(b) << (8 * i)
	}
	shift := 64 - 8*len(raw)
	if len(raw) == 0 {
		return int64(0)
	}
	return int64(n<<shift) >> shift
}

// line reads to the end of a line, which names of globals have.
func (u *unpickler) line() string {
	var b []byte
	for len(b) < 1<<10 {
		c := u.bytes(1)[0]
		if c == '\n' {
			return string(b)
		}
		b = append(b, c)
	}
	bad("a name of more than %d bytes", len(b))
	return ""
}
