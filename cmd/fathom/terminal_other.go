//go:build !unix

package main

import "os"

// windowColumns asks the terminal for its width; 0 means unknown.
func windowColumns(*os.File) int { return 0 }
