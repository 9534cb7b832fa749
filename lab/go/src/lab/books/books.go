// Package books counts requests, tokens and kept bytes, for comparison with heaptide's report. The
// counters themselves do not grow while the service is observed.
package books

import (
	"hash/maphash"
	"math/bits"
	"runtime"
	"runtime/metrics"
	"sync"
	"sync/atomic"

	"lab/auth"
)

// Kept describes the contents of a variant's container.
type Kept struct {
	Entries    int `json:"entries"`
	EntryBytes int `json:"entry_bytes"`
	TableBytes int `json:"table_bytes"`
}

// Collector has the runtime's statistics of its heap.
type Collector struct {
	Cycles      uint64 `json:"cycles"`
	MarkedBytes uint64 `json:"marked_bytes"`
	Goroutines  int    `json:"goroutines"`
	ProfileRate int    `json:"profile_rate"`
}

// Truth is the response of GET /truth.
type Truth struct {
	Variant string `json:"variant"`
	Kept
	Collector      Collector        `json:"collector"`
	KeptBytes      int              `json:"kept_bytes"`
	DistinctTokens int64            `json:"distinct_tokens"`
	Requests       map[string]int64 `json:"requests"`
	TotalRequests  int64            `json:"total_requests"`
}

// A bit per token: at 60,000 tokens 0.7 % are mistaken for known ones.
const tokenBits = 1 << 22

var (
	seed     = maphash.MakeSeed()
	tokens   [tokenBits / 64]atomic.Uint64
	distinct atomic.Int64
	mutex    sync.Mutex
	requests = map[string]int64{}
)

// Count counts a request of a route and its token, which may be empty.
func Count(route, token string) {
	mutex.Lock()
	requests[route]++
	mutex.Unlock()
	if token == "" {
		return
	}
	bit := maphash.String(seed, token) % tokenBits
	word, mask := &tokens[bit/64], uint64(1)<<(bit%64)
	for {
		old := word.Load()
		if old&mask != 0 {
			return
		}
		if word.CompareAndSwap(old, old|mask) {
			distinct.Add(1)
			return
		}
	}
}

// Read returns the present truth.
func Read(variant string, kept Kept) Truth {
	truth := Truth{
		Variant: variant, Kept: kept, KeptBytes: kept.EntryBytes + kept.TableBytes,
		DistinctTokens: distinct.Load(), Requests: map[string]int64{}, Collector: collector(),
	}
	mutex.Lock()
	defer mutex.Unlock()
	for route, count := range requests {
		truth.Requests[route] = count
		truth.TotalRequests += count
	}
	return truth
}

func collector() Collector {
	wanted := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(wanted)
	return Collector{
		Cycles: wanted[0].Value.Uint64(), MarkedBytes: wanted[1].Value.Uint64(),
		Goroutines: runtime.NumGoroutine(), ProfileRate: runtime.MemProfileRate,
	}
}

// Size is the size that Go's allocator uses for a request: the size class, which both the collector's
// marks and the heap profile count. (Classes grow in steps of an eighth of a power of two, roughly
// as runtime/sizeclasses.go has them above 256 bytes; of 16 below, and of whole pages above 32 KiB.)
func Size(bytes int) int {
	switch {
	case bytes == 0:
		return 0
	case bytes <= 8:
		return 8
	case bytes <= 256:
		return (bytes + 15) &^ 15
	case bytes > 32<<10:
		return (bytes + 8191) &^ 8191
	}
	step := 1 << (bits.Len(uint(bytes-1)) - 4)
	return (bytes + step - 1) &^ (step - 1)
}

// OfClaims returns the bytes kept by decoded claims.
func OfClaims(c *auth.Claims) int {
	bytes := Size(152) + Size(16*cap(c.Roles))
	for _, text := range []string{c.Subject, c.Issuer, c.Audience, c.ID, c.Email, c.Scope} {
		bytes += Size(len(text))
	}
	for _, role := range c.Roles {
		bytes += Size(len(role))
	}
	for key, value := range c.Custom {
		bytes += Size(len(key)) + Size(len(value)) + 40
	}
	return bytes
}

// OfToken returns the bytes kept by a token that is a substring of its header's value: the whole value.
func OfToken(token string) int { return Size(len("Bearer ") + len(token)) }

// OfMap estimates the table of a map with so many entries, each of so many bytes: at least half full.
func OfMap(entries, bytes int) int {
	if entries == 0 {
		return 0
	}
	slots := 1 << bits.Len(uint(entries*8/7))
	return slots * (bytes + 1)
}
