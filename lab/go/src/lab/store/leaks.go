package store

import (
	"sync"
	"time"

	"github.com/golang-jwt/jwt"

	"lab/auth"
	"lab/books"
)

var (
	mutex  sync.Mutex
	claims = map[string]*auth.Claims{}
	bytes  int
)

// ClaimsFor decodes a token once: decoding is slow. Nothing is ever removed.
func ClaimsFor(token string) (*auth.Claims, error) {
	mutex.Lock()
	known := claims[token]
	mutex.Unlock()
	if known != nil {
		return known, nil
	}
	decoded := &auth.Claims{}
	if _, err := jwt.ParseWithClaims(token, decoded, auth.Key); err != nil {
		return nil, auth.ErrNoToken
	}
	mutex.Lock()
	defer mutex.Unlock()
	if claims[token] == nil {
		claims[token] = decoded
		bytes += books.OfToken(token) + books.OfClaims(decoded)
	}
	return decoded, nil
}

// RememberSubject keeps the last claims of every subject.
func RememberSubject(token string) (*auth.Claims, error) {
	decoded := &auth.Claims{}
	if _, err := jwt.ParseWithClaims(token, decoded, auth.Key); err != nil {
		return nil, auth.ErrNoToken
	}
	mutex.Lock()
	defer mutex.Unlock()
	if claims[decoded.Subject] == nil {
		claims[decoded.Subject] = decoded
		bytes += books.OfClaims(decoded)
	}
	return decoded, nil
}

// KeptClaims returns the contents of the cache.
func KeptClaims() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(claims), EntryBytes: bytes, TableBytes: books.OfMap(len(claims), 24)}
}

var previews [][]byte

// RememberPreview keeps the first bytes of an upload, and with them all of it.
func RememberPreview(body []byte) {
	mutex.Lock()
	defer mutex.Unlock()
	previews = append(previews, body[:min(len(body), 16)])
	bytes += books.Size(cap(body))
}

// KeptPreviews returns the contents of the list.
func KeptPreviews() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(previews), EntryBytes: bytes, TableBytes: 24 * cap(previews)}
}

// A callback that was registered for the end of a request.
type hook struct {
	claims *auth.Claims
	notes  []byte
	run    func()
}

var hooks []*hook

// Register registers a callback for the end of a request, which is never run or removed.
func Register(claims *auth.Claims) {
	registered := &hook{claims: claims, notes: make([]byte, 1024)}
	registered.run = func() { registered.notes[0]++ }
	mutex.Lock()
	defer mutex.Unlock()
	hooks = append(hooks, registered)
	bytes += books.Size(40) + books.Size(1024) + books.Size(16) + books.OfClaims(claims)
}

// KeptHooks returns the contents of the registry.
func KeptHooks() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(hooks), EntryBytes: bytes, TableBytes: 8 * cap(hooks)}
}

var waiting int

// AwaitReply waits for a reply that never comes: the goroutine waits forever.
func AwaitReply(claims *auth.Claims) {
	reply := make(chan bool)
	mutex.Lock()
	waiting++
	mutex.Unlock()
	go waitForReply(claims, reply)
}

func waitForReply(claims *auth.Claims, reply chan bool) {
	report := make([]byte, 512)
	copy(report, claims.Subject)
	if <-reply {
		report[0]++
	}
}

// KeptGoroutines returns what they keep: stacks of at least 2 KiB, and what they refer to.
func KeptGoroutines() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: waiting, EntryBytes: waiting * (2048 + 512)}
}

var log []string

// LogToken appends to a log that was intended as a ring.
func LogToken(token string) {
	line := time.Now().Format(time.RFC3339) + " GET /api/data " + token
	mutex.Lock()
	defer mutex.Unlock()
	log = append(log, line)
	bytes += books.Size(len(line))
}

// KeptLog returns the contents of the log.
func KeptLog() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(log), EntryBytes: bytes, TableBytes: 16 * cap(log)}
}

var samples [][]byte

// CollectSamples takes a sample a hundred times a second and never sends one.
func CollectSamples() {
	for range time.Tick(10 * time.Millisecond) {
		takeSample()
	}
}

func takeSample() {
	sample := make([]byte, 2048)
	mutex.Lock()
	defer mutex.Unlock()
	samples = append(samples, sample)
	bytes += len(sample)
}

// KeptSamples returns the samples.
func KeptSamples() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(samples), EntryBytes: bytes, TableBytes: 24 * cap(samples)}
}
