package job

import (
	"bytes"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Explain writes the job with everything that was left out, as a job file of
// its own in which values that are not given are marked, and then, as
// comments, what the job comes to: steps, parameters and memory. trainRows is 0
// when it is not known; synthetic data tell it themselves. The job must be valid.
func (j *Job) Explain(w io.Writer, given Given, trainRows int64) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# job %s, resolved; values marked \"default\" were not given\n", j.Metadata.Name)
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	if err := encoder.Encode(given.node(reflect.ValueOf(j).Elem(), "")); err != nil {
		return fmt.Errorf("explain job: %w", err)
	}
	if err := j.summary(&b, trainRows); err != nil {
		return fmt.Errorf("explain job: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func (j *Job) summary(w io.Writer, trainRows int64) error {
	d := j.Spec.Data
	if d.Format == FormatSynthetic {
		trainRows = d.Synthetic.TrainRows
	}
	t := j.Spec.Train
	if trainRows > 0 {
		fmt.Fprintf(w, "# steps: %s per epoch, %s in all; %s rows in batches of %s, each in %d lanes\n",
			group(j.StepsPerEpoch(trainRows)), group(j.Steps(trainRows)), group(trainRows), group(int64(t.BatchSize)), t.Lanes)
	} else {
		fmt.Fprintf(w, "# steps: known once the rows are counted; rows / %s per epoch, rounded up, and %d epochs\n",
			group(int64(t.BatchSize)), t.Epochs)
	}
	if t.ScaleRule != ScaleNone {
		rows, dense := t.Optimizers()
		fmt.Fprintf(w, "# scaled from batches of %s: rate %g, weight decay %g of the rows; %g, %g of the network\n",
			group(int64(t.BaseBatchSize)), rows.LearningRate, rows.WeightDecay, dense.LearningRate, dense.WeightDecay)
	}
	tables, err := j.Tables()
	if err != nil {
		return err
	}
	network, err := j.DenseParameters()
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "# parameters: %s of the network, and %s\n", group(network), perRow(tables))

	rows, known, err := j.RowsMax(1_000_000)
	if err != nil {
		return err
	}
	all := int64(0)
	for _, n := range rows {
		all += n
	}
	of := "at most " + group(all)
	if !known {
		of = "every " + group(all)
	}
	m, err := j.MemoryPerServer(rows)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "# memory of one server, predicted: %s for %s rows of %d bytes, %s for the network, %s for the process\n",
		mebibytes(m.Rows), of, m.Row, mebibytes(m.Dense), mebibytes(m.Process))
	fmt.Fprintf(w, "# digest: %s\n", j.Digest())
	return nil
}

// perRow tells the parameters of the tables' rows.
func perRow(tables []Table) string {
	least, most := 0, 0
	for i, t := range tables {
		width := 0
		for _, c := range t.Columns {
			width += c.Width
		}
		if i == 0 || width < least {
			least = width
		}
		most = max(most, width)
	}
	switch {
	case len(tables) == 1:
		return fmt.Sprintf("%d per row of the table", most)
	case least == most:
		return fmt.Sprintf("%d per row of the %d tables", most, len(tables))
	}
	return fmt.Sprintf("%d to %d per row of the %d tables", least, most, len(tables))
}

// group writes a number with commas.
func group(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func mebibytes(n int64) string {
	if n < 1<<20 {
		return "less than 1 MiB"
	}
	return group((n+1<<19)>>20) + " MiB"
}

// node returns the YAML of the value at a path, with a mark at what was not given.
func (g Given) node(v reflect.Value, path string) *yaml.Node {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return plainNode(v)
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, m := range members(v.Type()) {
		field := v.Field(m.index)
		if omitted(v.Type().Field(m.index), field) {
			continue
		}
		key := &yaml.Node{Kind: yaml.ScalarNode, Value: m.name}
		here := join(path, m.name)
		value := plainNode(field)
		if fields, ok := field.Interface().([]Field); ok {
			value = fieldNodes(fields)
		}
		switch isDefault := !g[here]; {
		case isDefault && (value.Kind == yaml.ScalarNode || value.Style == yaml.FlowStyle):
			value.LineComment = "default"
		case isDefault:
			key.LineComment = "default"
		case m.typ != reflect.TypeFor[[]Field]():
			value = g.node(field, here)
		}
		n.Content = append(n.Content, key, value)
	}
	return n
}

// omitted tells whether a field is left out, as it is in JSON.
func omitted(f reflect.StructField, v reflect.Value) bool {
	return strings.HasSuffix(f.Tag.Get("json"), ",omitempty") && isZero(v)
}

// plainNode returns the YAML of a value without marks.
func plainNode(v reflect.Value) *yaml.Node {
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	var n yaml.Node
	switch v.Kind() {
	case reflect.Struct:
		n.Kind = yaml.MappingNode
		for _, m := range members(v.Type()) {
			if field := v.Field(m.index); !omitted(v.Type().Field(m.index), field) {
				n.Content = append(n.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: m.name}, plainNode(field))
			}
		}
	case reflect.Slice:
		n.Kind = yaml.SequenceNode
		if v.Type().Elem().Kind() != reflect.Struct {
			n.Style = yaml.FlowStyle
		}
		for i := range v.Len() {
			n.Content = append(n.Content, plainNode(v.Index(i)))
		}
	case reflect.String:
		n.SetString(v.String())
		if n.ShortTag() == "!!str" && looksOtherwise(v.String()) {
			n.Style = yaml.DoubleQuotedStyle
		}
	default:
		// Numbers and booleans: JSON's shortest form is YAML too.
		n.Kind, n.Value = yaml.ScalarNode, string(encode(v.Interface()))
	}
	return &n
}

// looksOtherwise tells whether a plain scalar of this text would not be a string.
func looksOtherwise(s string) bool {
	n := yaml.Node{Kind: yaml.ScalarNode, Value: s}
	return n.ShortTag() != "!!str"
}

// fieldNodes lists fields one per line, without what is the default in each.
func fieldNodes(fields []Field) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, f := range fields {
		short := f
		v, s := reflect.ValueOf(f), reflect.ValueOf(&short).Elem()
		for _, m := range members(v.Type())[1:] { // all but the name
			without := f
			reflect.ValueOf(&without).Elem().Field(m.index).SetZero()
			if reflect.ValueOf(without.withDefaults()).Field(m.index).Equal(v.Field(m.index)) {
				s.Field(m.index).SetZero()
			}
		}
		line := plainNode(s)
		line.Style = yaml.FlowStyle
		n.Content = append(n.Content, line)
	}
	return n
}
