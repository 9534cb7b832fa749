package store

import (
	"hash/fnv"
	"strings"

	"lab/auth"
	"lab/books"
)

// Leaks of few bytes, or of few requests.

type quota struct {
	requests uint32
	plan     [24]byte
}

var (
	quotas  = map[uint64]*quota{}
	slow    []*string
	calls   int
	missing = map[string]string{}
)

// CountQuota is a rate limiter that never forgets a token: a small object for each.
func CountQuota(claims *auth.Claims) {
	sum := fnv.New64a()
	sum.Write([]byte(claims.Subject + claims.ID))
	mutex.Lock()
	defer mutex.Unlock()
	if quotas[sum.Sum64()] == nil {
		quotas[sum.Sum64()] = &quota{}
		bytes += books.Size(28)
	}
	quotas[sum.Sum64()].requests++
}

// KeptQuotas returns the contents of the table.
func KeptQuotas() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(quotas), EntryBytes: bytes, TableBytes: books.OfMap(len(quotas), 16)}
}

// LogSlowQuery writes down every 20th query.
func LogSlowQuery(claims *auth.Claims) {
	mutex.Lock()
	defer mutex.Unlock()
	if calls++; calls%20 == 0 {
		line := strings.Repeat("select items of "+claims.Subject+"; ", 30)
		slow = append(slow, &line)
		bytes += books.Size(len(line)) + books.Size(16)
	}
}

// KeptSlow returns the contents of the log.
func KeptSlow() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(slow), EntryBytes: bytes, TableBytes: 8 * cap(slow)}
}

// RememberMissing is a negative cache of paths, which scanners fill.
func RememberMissing(path string) {
	mutex.Lock()
	defer mutex.Unlock()
	if missing[path] == "" {
		answer := strings.Repeat("no such resource: "+path+"\n", 12)
		missing[strings.Clone(path)] = answer
		bytes += books.Size(len(path)) + books.Size(len(answer))
	}
}

// KeptMissing returns the contents of the cache.
func KeptMissing() books.Kept {
	mutex.Lock()
	defer mutex.Unlock()
	return books.Kept{Entries: len(missing), EntryBytes: bytes, TableBytes: books.OfMap(len(missing), 32)}
}
