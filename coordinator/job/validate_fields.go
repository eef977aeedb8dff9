package job

import (
	"strconv"
	"strings"
	"unicode"
)

// nameBytesMax bounds the names of fields and columns.
const nameBytesMax = 128

// fields checks what the fields are and how they refer to each other.
func (c *checker) fields(d *Data) {
	if len(d.Fields) == 0 {
		c.fault("spec.data.fields", "is required: list the fields of the model")
	}
	if len(d.Fields) > fieldsMax {
		c.fault("spec.data.fields", "%d fields, at most %d", len(d.Fields), fieldsMax)
		return
	}
	first := map[string]int{}
	for i, f := range d.Fields {
		path := at("spec.data.fields", i)
		if f.Name == "" || len(f.Name) > nameBytesMax || strings.ContainsFunc(f.Name, unprintable) {
			c.fault(path+".name", "%q is not a name: 1 to %d bytes of printable text", clip(f.Name), nameBytesMax)
		} else if k, twice := first[f.Name]; twice {
			c.fault(path+".name", "%q is the name of spec.data.fields[%d] already", f.Name, k)
		} else {
			first[f.Name] = i
		}
		c.column(path, d, f)
		c.kind(path, f)
	}
	for i, f := range d.Fields {
		if f.Share != "" {
			c.share(at("spec.data.fields", i)+".share", d, f, first)
		}
	}
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }

// column checks that a field's column can exist.
func (c *checker) column(path string, d *Data, f Field) {
	path += ".column"
	switch {
	case len(f.Column) > nameBytesMax:
		c.fault(path, "more than %d bytes", nameBytesMax)
	case d.hasColumns() && f.Column == d.Label:
		c.fault(path, "%q is the label: the model would be told the answer", clip(f.Column))
	case d.Format == FormatLibFFM:
		if _, err := strconv.ParseUint(f.Column, 10, 32); err != nil {
			c.fault(path, "%q is not the number of a libffm field", clip(f.Column))
		}
	case d.Format == FormatSynthetic && d.Synthetic != nil:
		if !d.Synthetic.generates(f.Column) {
			c.fault(path, "%q is not generated: the columns are i1 to i%d and c1 to c%d",
				clip(f.Column), d.Synthetic.Numeric, d.Synthetic.Categorical)
		}
	}
}

// generates tells whether the generator has a column.
func (s *Synthetic) generates(column string) bool {
	if column == "" {
		return false
	}
	count := map[byte]int{'i': s.Numeric, 'c': s.Categorical}[column[0]]
	n, err := strconv.Atoi(column[1:])
	return err == nil && n >= 1 && n <= count && strconv.Itoa(n) == column[1:]
}

// kind checks the options of a field against its type.
func (c *checker) kind(path string, f Field) {
	switch f.Type {
	case "numeric":
		if f.Separator != "" {
			c.fault(path+".separator", "a numeric field has one value")
		}
		if f.Pooling != "" {
			c.fault(path+".pooling", "a numeric field has one value")
		}
		if f.MaxValues > 1 {
			c.fault(path+".max_values", "a numeric field has one value")
		}
	case "categorical":
		if f.Transform != "" {
			c.fault(path+".transform", "only numeric fields have a transform; add type: numeric")
		}
		if f.MaxValues < 1 {
			c.fault(path+".max_values", "%d is not in [1, 65535]", f.MaxValues)
		}
	}
}

// byValue tells whether every value of the field has a row of its own.
func (f Field) byValue() bool { return f.Type == "categorical" || f.Transform == "bucket" }

func (c *checker) share(path string, d *Data, f Field, first map[string]int) {
	i, ok := first[f.Share]
	if !ok {
		names := make([]string, len(d.Fields))
		for k, other := range d.Fields {
			names[k] = other.Name
		}
		hint := ""
		if near, ok := nearest(f.Share, names); ok && near != f.Name {
			hint = "; did you mean " + near + "?"
		}
		c.fault(path, "there is no field %q%s", clip(f.Share), hint)
		return
	}
	switch owner := d.Fields[i]; {
	case owner.Name == f.Name:
		c.fault(path, "a field cannot share its own rows: remove it")
	case owner.Share != "":
		c.fault(path, "field %s has no rows of its own: share %s", owner.Name, owner.Share)
	case !f.byValue() || !owner.byValue():
		c.fault(path, "only fields with a row per value (categorical or bucket) can share rows")
	}
}
