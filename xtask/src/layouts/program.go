// A program whose DWARF has the types that heaptide reads: net/http serves HTTP/1 and HTTP/2, the heap profile is read.
package main

import (
	"net/http"
	"os"
	"runtime"
)

func main() {
	runtime.MemProfile(nil, true)
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", r.Header.Get("Accept"))
	})
	http.ListenAndServeTLS("127.0.0.1:0", os.Args[1], os.Args[2], nil)
}
