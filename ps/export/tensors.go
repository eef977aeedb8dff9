package export

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// The dense tensors are a safetensors file: the length of a header (u64), the
// header as JSON, and the tensors' elements without gaps, all little-endian. The
// same values give the same bytes: tensors stand in the model's order.

// headerMax bounds the header.
const headerMax = 16 << 20

// metadataKey is the member of the header that is no tensor.
const metadataKey = "__metadata__"

// tensorHeader is a tensor in the header.
type tensorHeader struct {
	DType   string   `json:"dtype"`
	Shape   []int    `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// writeTensors writes the tensors with their values.
func writeTensors(w io.Writer, tensors []Tensor, values [][]float32) error {
	var h bytes.Buffer
	fmt.Fprintf(&h, `{%q:{"format":"fathom"}`, metadataKey)
	at := int64(0)
	for _, t := range tensors {
		end := at + 4*int64(t.Size())
		name, err := json.Marshal(t.Name)
		if err != nil {
			return err
		}
		text, err := json.Marshal(tensorHeader{"F32", append([]int{}, t.Shape...), [2]int64{at, end}})
		if err != nil {
			return err
		}
		fmt.Fprintf(&h, ",%s:%s", name, text)
		at = end
	}
	h.WriteByte('}')
	for h.Len()%8 != 0 { // so that the elements are aligned
		h.WriteByte(' ')
	}
	if h.Len() > headerMax {
		return fmt.Errorf("the header of the dense tensors has %d bytes, at most %d are possible", h.Len(), headerMax)
	}
	if _, err := w.Write(append(binary.LittleEndian.AppendUint64(nil, uint64(h.Len())), h.Bytes()...)); err != nil {
		return err
	}
	var b []byte
	for _, v := range values {
		for ; len(v) > 0; v = v[min(len(v), 1<<14):] {
			b = b[:0]
			for _, x := range v[:min(len(v), 1<<14)] {
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			}
			if _, err := w.Write(b); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseTensors reads a safetensors file whose tensors must be the given ones, in
// any order, and returns their values in the order given.
func parseTensors(b []byte, tensors []Tensor) ([][]float32, error) {
	if len(b) < 8 {
		return nil, damaged("the dense tensors have %d bytes", len(b))
	}
	n := binary.LittleEndian.Uint64(b)
	if b = b[8:]; n > headerMax || n > uint64(len(b)) {
		return nil, damaged("the header of the dense tensors has %d bytes, the file %d", n, len(b))
	}
	headers, err := parseTensorHeader(b[:n])
	if err != nil {
		return nil, damaged("header of the dense tensors: %w", err)
	}
	data := b[n:]
	if err := checkOffsets(headers, int64(len(data))); err != nil {
		return nil, damaged("header of the dense tensors: %w", err)
	}
	if len(headers) != len(tensors) {
		return nil, damaged("%d dense tensors, the manifest names %d", len(headers), len(tensors))
	}
	values := make([][]float32, len(tensors))
	for i, t := range tensors {
		h, ok := headers[t.Name]
		if !ok || !slices.Equal(h.Shape, t.Shape) {
			return nil, damaged("dense tensor %q has shape %v, the manifest says %v", t.Name, h.Shape, t.Shape)
		}
		part := data[h.Offsets[0]:h.Offsets[1]]
		values[i] = make([]float32, len(part)/4)
		for j := range values[i] {
			values[i][j] = math.Float32frombits(binary.LittleEndian.Uint32(part[4*j:]))
		}
	}
	return values, nil
}

// parseTensorHeader reads the header's members. It goes through them one by one,
// because a map would hide a tensor that is there twice.
func parseTensorHeader(b []byte) (map[string]tensorHeader, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	headers := map[string]tensorHeader{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string) // More and Token alternate, so it is one
		if name == metadataKey {
			var metadata map[string]string
			if err := d.Decode(&metadata); err != nil {
				return nil, err
			}
			continue
		}
		if _, twice := headers[name]; twice || len(headers) == tensorsMax {
			return nil, fmt.Errorf("tensor %q is there twice, or there are more than %d", name, tensorsMax)
		}
		var h tensorHeader
		if err := d.Decode(&h); err != nil {
			return nil, fmt.Errorf("tensor %q: %w", name, err)
		}
		headers[name] = h
	}
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("something follows its end")
	}
	return headers, nil
}

// checkOffsets wants float32 tensors that fill the data without gap or overlap.
func checkOffsets(headers map[string]tensorHeader, size int64) error {
	var spans [][2]int64
	for name, h := range headers {
		n := int64(1)
		for _, s := range h.Shape {
			if s < 1 || int64(s) > size/4/n {
				return fmt.Errorf("tensor %q has shape %v in %d bytes", name, h.Shape, size)
			}
			n *= int64(s)
		}
		if h.DType != "F32" || h.Offsets[0] < 0 || h.Offsets[1] > size || h.Offsets[1]-h.Offsets[0] != 4*n {
			return fmt.Errorf("tensor %q is %s at %v, want F32 of shape %v", name, h.DType, h.Offsets, h.Shape)
		}
		spans = append(spans, h.Offsets)
	}
	slices.SortFunc(spans, func(a, b [2]int64) int { return int(min(1, max(-1, a[0]-b[0]))) })
	at := int64(0)
	for _, s := range spans {
		if s[0] != at {
			return fmt.Errorf("bytes %d to %d belong to no tensor or to two", min(at, s[0]), max(at, s[0]))
		}
		at = s[1]
	}
	if at != size {
		return fmt.Errorf("%d bytes behind the last tensor", size-at)
	}
	return nil
}
