package store

import (
	"runtime"
	"sync"

	"lab/books"
)

// A block per request, of a size that identifies its route.
var sizes = map[string]int{
	"GET /api/data": 1152, "GET /api/profile": 1280, "GET /users/{id}": 1408, "GET /health": 1536,
}

var (
	blocksMutex sync.Mutex
	blocks      = map[string][][]byte{}
)

// KeepForRoute keeps a block, allocated by the handler itself, by a goroutine that it starts, or by a
// goroutine of that one; other requests run in between.
func KeepForRoute(route string) {
	size := sizes[route]
	if size == 0 {
		return
	}
	blocksMutex.Lock()
	depth := len(blocks[route]) % 3
	blocksMutex.Unlock()
	done := make(chan []byte)
	switch depth {
	case 0:
		runtime.Gosched()
		keepBlock(route, make([]byte, size))
		return
	case 1:
		go makeBlock(size, done)
	default:
		go func() { go makeBlock(size, done) }()
	}
	keepBlock(route, <-done)
}

func makeBlock(size int, done chan<- []byte) {
	runtime.Gosched()
	done <- make([]byte, size)
}

func keepBlock(route string, block []byte) {
	blocksMutex.Lock()
	defer blocksMutex.Unlock()
	blocks[route] = append(blocks[route], block)
}

// KeptForRoutes returns what is kept.
func KeptForRoutes() books.Kept {
	blocksMutex.Lock()
	defer blocksMutex.Unlock()
	kept := books.Kept{}
	for route, of := range blocks {
		kept.Entries += len(of)
		kept.EntryBytes += len(of) * sizes[route]
		kept.TableBytes += 24 * cap(of)
	}
	return kept
}

// Deep needs a deep stack, which grows during the call and shrinks afterwards.
//
//go:noinline
func Deep(depth int) int {
	var room [128]byte
	room[depth%128] = 1
	if depth == 0 {
		runtime.Gosched()
		return 0
	}
	return Deep(depth-1) + int(room[(depth+1)%128])
}
