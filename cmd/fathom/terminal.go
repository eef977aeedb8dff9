package main

import (
	"io"
	"os"

	"github.com/mattn/go-isatty"
)

// terminalWidthDefault is assumed where the terminal does not tell.
const terminalWidthDefault = 80

// terminalWidth returns a function that asks the terminal for its width, if w
// is a terminal that understands cursor movements.
func terminalWidth(w io.Writer) (width func() int, ok bool) {
	f, ok := w.(*os.File)
	if !ok || !isatty.IsTerminal(f.Fd()) || os.Getenv("TERM") == "dumb" {
		return nil, false
	}
	return func() int {
		if n := windowColumns(f); n > 0 {
			return n
		}
		return terminalWidthDefault
	}, true
}
