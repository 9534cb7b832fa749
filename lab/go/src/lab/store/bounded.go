// Package store holds what the variants keep: leaks.go without bound, bounded.go with one.
package store

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt"
	lru "github.com/hashicorp/golang-lru"

	"lab/auth"
	"lab/books"
)

var recent, _ = lru.New(1024)

// RecentClaimsFor decodes a token unless it is among the 1,024 used last.
func RecentClaimsFor(token string) (*auth.Claims, error) {
	if known, ok := recent.Get(token); ok {
		return known.(*auth.Claims), nil
	}
	decoded := &auth.Claims{}
	if _, err := jwt.ParseWithClaims(token, decoded, auth.Key); err != nil {
		return nil, auth.ErrNoToken
	}
	recent.Add(token, decoded)
	return decoded, nil
}

// KeptRecent returns the contents of the cache.
func KeptRecent() books.Kept {
	kept := books.Kept{Entries: recent.Len(), TableBytes: books.OfMap(recent.Len(), 24)}
	for _, key := range recent.Keys() {
		if value, ok := recent.Peek(key); ok {
			kept.EntryBytes += books.OfToken(key.(string)) + books.OfClaims(value.(*auth.Claims))
		}
	}
	return kept
}

type timed struct {
	since  time.Time
	claims *auth.Claims
}

var (
	timedMutex sync.Mutex
	timedCache = map[string]timed{}
)

// TimedClaimsFor decodes a token unless it is in the cache.
func TimedClaimsFor(token string) (*auth.Claims, error) {
	timedMutex.Lock()
	defer timedMutex.Unlock()
	if known, ok := timedCache[token]; ok {
		return known.claims, nil
	}
	decoded := &auth.Claims{}
	if _, err := jwt.ParseWithClaims(token, decoded, auth.Key); err != nil {
		return nil, auth.ErrNoToken
	}
	timedCache[token] = timed{time.Now(), decoded}
	return decoded, nil
}

// SweepExpired removes what is older than 15 s.
func SweepExpired() {
	for range time.Tick(time.Second) {
		timedMutex.Lock()
		for token, entry := range timedCache {
			if time.Since(entry.since) > 15*time.Second {
				delete(timedCache, token)
			}
		}
		timedMutex.Unlock()
	}
}

// ClearBatches empties the cache every 20 s.
func ClearBatches() {
	for range time.Tick(20 * time.Second) {
		timedMutex.Lock()
		timedCache = map[string]timed{}
		timedMutex.Unlock()
	}
}

// KeptTimed returns the contents of the cache.
func KeptTimed() books.Kept {
	timedMutex.Lock()
	defer timedMutex.Unlock()
	kept := books.Kept{Entries: len(timedCache), TableBytes: books.OfMap(len(timedCache), 48)}
	for token, entry := range timedCache {
		kept.EntryBytes += books.OfToken(token) + books.OfClaims(entry.claims)
	}
	return kept
}

// Permissions are a user's permissions from another service: large, and freed with the request.
func Permissions(claims *auth.Claims) []string {
	granted := make([]string, 0, 200)
	for id := 0; id < 200; id++ {
		granted = append(granted, fmt.Sprintf("%s:item:%d:read", claims.Subject, id))
	}
	return granted
}

var buffers = sync.Pool{New: func() interface{} { return make([]byte, 0, 16<<10) }}

// Pooled works in a reused buffer.
func Pooled(claims *auth.Claims) int {
	buffer := buffers.Get().([]byte)
	buffer = append(buffer, claims.Subject...)
	size := len(buffer)
	buffers.Put(buffer[:0]) //nolint: a pointer would save an allocation; people write it so
	return size
}

var (
	tablesMutex sync.Mutex
	tables      = map[int][]byte{}
)

// LoadNextTable loads one table for each of the first 2,000 requests, until all are loaded.
func LoadNextTable() {
	tablesMutex.Lock()
	defer tablesMutex.Unlock()
	if next := len(tables); next < 2000 {
		tables[next] = make([]byte, 2048)
	}
}

// KeptTables returns the contents of the tables.
func KeptTables() books.Kept {
	tablesMutex.Lock()
	defer tablesMutex.Unlock()
	return books.Kept{Entries: len(tables), EntryBytes: 2048 * len(tables), TableBytes: books.OfMap(len(tables), 32)}
}

// HoldSlowly holds a result as for a slow client; the duration varies with a period of 20 s, and with
// it the number of requests in flight.
func HoldSlowly() int {
	result := make([]byte, 64<<10)
	wave := math.Sin(float64(time.Now().UnixNano()) / 1e9 * 2 * math.Pi / 20)
	time.Sleep(time.Duration((0.3 + 0.25*wave) * float64(time.Second)))
	sum := 0
	for _, b := range result {
		sum += int(b)
	}
	return sum
}

var served atomic.Int64

// Report builds a report of 32 MiB for every 500th request, in small pieces, and frees it.
func Report(claims *auth.Claims) int {
	rows := 8
	if served.Add(1)%500 == 0 {
		rows = 32 << 10
	}
	report := make([]string, 0, rows)
	for row := 0; row < rows; row++ {
		report = append(report, fmt.Sprintf("%1000s", fmt.Sprintf("row %d of %s", row, claims.Subject)))
	}
	return len(report)
}

// Garbage allocates 256 KiB of garbage: the heap oscillates with the collector.
func Garbage() int {
	sum := 0
	for piece := 0; piece < 64; piece++ {
		block := make([]byte, 4096)
		block[piece] = 1
		sum += keepAlive(block)
	}
	return sum
}

//go:noinline
func keepAlive(block []byte) int { return len(block) }
