// Memory of Go and C in one process: `c COUNT SIZE` and `go COUNT SIZE` on standard input keep so many
// blocks of that size; the response is `done`.
package main

/*
#include <stdlib.h>

static void *keep_in_c(size_t size) { return malloc(size); }
*/
import "C"

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

var (
	ofC  []unsafe.Pointer
	ofGo [][]byte
)

func main() {
	fmt.Println("ready")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var whose string
		var count, size int
		if _, err := fmt.Sscan(lines.Text(), &whose, &count, &size); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for ; count > 0; count-- {
			if whose == "c" {
				keepInC(size)
			} else {
				keepInGo(size)
			}
		}
		runtime.GC()
		runtime.GC()
		fmt.Println("done")
	}
}

func keepInC(size int) { ofC = append(ofC, C.keep_in_c(C.size_t(size))) }

func keepInGo(size int) { ofGo = append(ofGo, make([]byte, size)) }
