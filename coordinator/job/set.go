package job

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// applySet changes the tree as one --set path=value says, where value is YAML
// and path may have indices, as in spec.data.fields[0].type; the index just
// after the end appends, and the value null takes a member out. Whether the path exists is for the decoder to say, so
// that a wrong name gets the same answer wherever it was written.
func applySet(root *yaml.Node, number int, text string) error {
	path, valueText, ok := strings.Cut(text, "=")
	if !ok || path == "" {
		return fmt.Errorf("%q is not of the form path=value, like spec.train.epochs=3", clip(text))
	}
	value, err := parseValue(valueText)
	if err != nil {
		return fmt.Errorf("%s: the value is not valid YAML: %w", clip(path), err)
	}
	mark(value, -number)
	n := root
	var parent *yaml.Node // of n, when n is a member of a mapping
	for _, step := range strings.Split(path, ".") {
		name, indices, err := splitStep(step)
		if err != nil {
			return fmt.Errorf("%s: %w", clip(path), err)
		}
		parent = n
		if n, err = child(n, name, number); err != nil {
			return fmt.Errorf("%s: %w", clip(path), err)
		}
		for _, i := range indices {
			if n, err = item(n, i, number); err != nil {
				return fmt.Errorf("%s: %s %w", clip(path), name, err)
			}
			parent = nil
		}
	}
	if parent != nil && n.Kind != 0 && value.ShortTag() == "!!null" {
		at := slices.Index(parent.Content, n)
		parent.Content = slices.Delete(parent.Content, at-1, at+1)
		return nil
	}
	*n = *value
	return nil
}

func parseValue(text string) (*yaml.Node, error) {
	if len(text) > textBytesMax {
		return nil, fmt.Errorf("more than %d bytes", textBytesMax)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return nil, err
	}
	if doc.Kind == 0 || len(doc.Content) == 0 {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null"}, nil
	}
	return doc.Content[0], nil
}

// mark gives the nodes of a tree the position of their --set.
func mark(n *yaml.Node, line int) {
	n.Line = line
	for _, c := range n.Content {
		mark(c, line)
	}
}

// splitStep splits "fields[0]" into its name and indices.
func splitStep(step string) (name string, indices []int, err error) {
	name, rest, indexed := strings.Cut(step, "[")
	if name == "" {
		return "", nil, fmt.Errorf("a name is missing in the path")
	}
	for indexed {
		var number string
		var closed bool
		number, rest, closed = strings.Cut(rest, "]")
		i, err := strconv.Atoi(number)
		if !closed || err != nil || i < 0 {
			return "", nil, fmt.Errorf("%q is not an index like [0]", clip("["+number))
		}
		indices = append(indices, i)
		if rest == "" {
			break
		}
		if rest[0] != '[' {
			return "", nil, fmt.Errorf("expected a '.' before %q", clip(rest))
		}
		rest = rest[1:]
	}
	return name, indices, nil
}

// own makes a node that a --set changes independent of the anchor it refers to,
// and an absent value an empty one of the given kind.
func own(n *yaml.Node, kind yaml.Kind) {
	if n.Kind == yaml.AliasNode {
		line, column, target := n.Line, n.Column, n.Alias
		*n = *target
		n.Anchor, n.Line, n.Column = "", line, column
		n.Content = append([]*yaml.Node(nil), target.Content...)
		for i, c := range n.Content {
			copied := *c
			n.Content[i] = &copied
		}
	}
	if n.Kind == 0 || n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null" {
		*n = yaml.Node{Kind: kind, Line: n.Line, Column: n.Column}
	}
}

func child(n *yaml.Node, name string, number int) (*yaml.Node, error) {
	own(n, yaml.MappingNode)
	if n.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s lies in %s, not in a mapping", clip(name), describe(n))
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == name {
			return n.Content[i+1], nil
		}
	}
	key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: name, Line: -number}
	value := &yaml.Node{Line: -number}
	n.Content = append(n.Content, key, value)
	return value, nil
}

func item(n *yaml.Node, i, number int) (*yaml.Node, error) {
	own(n, yaml.SequenceNode)
	if n.Kind != yaml.SequenceNode {
		return nil, fmt.Errorf("is %s, not a list", describe(n))
	}
	if i > len(n.Content) {
		return nil, fmt.Errorf("has %d items: [%d] is the first free index", len(n.Content), len(n.Content))
	}
	if i == len(n.Content) {
		n.Content = append(n.Content, &yaml.Node{Line: -number})
	}
	return n.Content[i], nil
}
