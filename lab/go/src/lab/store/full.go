package store

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt"
	lru "github.com/hashicorp/golang-lru"

	"lab/auth"
)

// Caches that are as full at the start as they are after hours.

const minutes = 300 * time.Second

var (
	fullClaims, _  = lru.New(5000)
	firstOfTwo, _  = lru.New(2000)
	secondOfTwo, _ = lru.New(3000)

	agedMutex sync.Mutex
	aged      = map[string]timed{}
	agedOrder []string
)

// earlyToken is as large as the tokens of the load generator.
func earlyToken(number int) string {
	return fmt.Sprintf("eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.%s.%043d", strings.Repeat("c", 350), number)
}

func earlyClaims(number int) *auth.Claims {
	user := fmt.Sprintf("user-%08d", 90000000+number)
	return &auth.Claims{Subject: user, Email: user + "@lab.example", ID: fmt.Sprintf("00000000-%012x", number), Scope: "openid profile email data:read data:write", Roles: []string{"reader", "writer", "auditor"}}
}

func decodeOnce(cache *lru.Cache, token string) (*auth.Claims, error) {
	if known, ok := cache.Get(token); ok {
		return known.(*auth.Claims), nil
	}
	decoded := &auth.Claims{}
	if _, err := jwt.ParseWithClaims(token, decoded, auth.Key); err != nil {
		return nil, auth.ErrNoToken
	}
	cache.Add(token, decoded)
	return decoded, nil
}

// ClaimsOfLarge uses an LRU cache of 5,000 tokens.
func ClaimsOfLarge(token string) (*auth.Claims, error) { return decodeOnce(fullClaims, token) }

// FillLarge fills it.
func FillLarge() {
	for number := 0; number < 5000; number++ {
		fullClaims.Add(earlyToken(number), earlyClaims(number))
	}
}

// ClaimsOfTwo uses two LRU caches, of claims and of rendered answers.
func ClaimsOfTwo(token string) (*auth.Claims, error) {
	claims, err := decodeOnce(firstOfTwo, token)
	if err == nil && !secondOfTwo.Contains(token) {
		secondOfTwo.Add(token, strings.Repeat(claims.Subject, 40))
	}
	return claims, err
}

// FillTwo fills both.
func FillTwo() {
	for number := 0; number < 3000; number++ {
		firstOfTwo.Add(earlyToken(number), earlyClaims(number))
		secondOfTwo.Add(earlyToken(number), strings.Repeat(earlyClaims(number).Subject, 40))
	}
}

// ClaimsOfMinutes uses a cache whose entries live for 300 s.
func ClaimsOfMinutes(token string) (*auth.Claims, error) {
	agedMutex.Lock()
	defer agedMutex.Unlock()
	for len(agedOrder) > 0 && time.Since(aged[agedOrder[0]].since) > minutes {
		delete(aged, agedOrder[0])
		agedOrder = agedOrder[1:]
	}
	if known, ok := aged[token]; ok {
		return known.claims, nil
	}
	decoded := &auth.Claims{}
	if _, err := jwt.ParseWithClaims(token, decoded, auth.Key); err != nil {
		return nil, auth.ErrNoToken
	}
	aged[token] = timed{time.Now(), decoded}
	agedOrder = append(agedOrder, token)
	return decoded, nil
}

// FillMinutes fills it with entries of all ages.
func FillMinutes() {
	oldest := time.Now().Add(-minutes)
	for number := 0; number < 12000; number++ {
		aged[earlyToken(number)] = timed{oldest.Add(time.Duration(number) * 25 * time.Millisecond), earlyClaims(number)}
		agedOrder = append(agedOrder, earlyToken(number))
	}
}
