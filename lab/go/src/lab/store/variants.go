package store

import (
	"fmt"

	"lab/auth"
	"lab/books"
)

// Variant is a way of using memory. lab/services.toml has the known answers.
type Variant struct {
	Name string
	// Claims returns the claims of a token for GET /api/data; nil: they are decoded each time.
	Claims func(token string) (*auth.Claims, error)
	// Data runs in GET /api/data after the claims are known; may be nil.
	Data func(token string, claims *auth.Claims)
	// Upload gets the body of POST /api/upload; may be nil.
	Upload func(body []byte)
	// Any runs in every request except GET /truth, with its route; may be nil.
	Any func(route string)
	// Beside runs concurrently with the service; may be nil.
	Beside func()
	// Missing gets the path of a request without a route; may be nil.
	Missing func(path string)
	// Fill runs before the service; may be nil.
	Fill func()
	// Kept returns the present contents of its container.
	Kept func() books.Kept
}

func nothing() books.Kept { return books.Kept{} }

var variants = []Variant{
	{Name: "stateless"},
	{Name: "token-cache", Claims: ClaimsFor, Kept: KeptClaims},
	{Name: "subject-cache", Claims: RememberSubject, Kept: KeptClaims},
	{Name: "body-retained", Upload: RememberPreview, Kept: KeptPreviews},
	{Name: "context-registry", Data: func(_ string, c *auth.Claims) { Register(c) }, Kept: KeptHooks},
	{Name: "goroutine-leak", Data: func(_ string, c *auth.Claims) { AwaitReply(c) }, Kept: KeptGoroutines},
	{Name: "token-log", Data: func(token string, _ *auth.Claims) { LogToken(token) }, Kept: KeptLog},
	{Name: "background", Beside: CollectSamples, Kept: KeptSamples},
	{Name: "attribution", Any: KeepForRoute, Kept: KeptForRoutes},
	{Name: "deep-stacks", Data: func(string, *auth.Claims) { Deep(200) }},
	{Name: "lru-1024", Claims: RecentClaimsFor, Kept: KeptRecent},
	{Name: "ttl", Claims: TimedClaimsFor, Beside: SweepExpired, Kept: KeptTimed},
	{Name: "ttl-batch", Claims: TimedClaimsFor, Beside: ClearBatches, Kept: KeptTimed},
	{Name: "request-state", Data: func(_ string, c *auth.Claims) { Permissions(c) }},
	{Name: "pool", Data: func(_ string, c *auth.Claims) { Pooled(c) }},
	{Name: "warm-up", Data: func(string, *auth.Claims) { LoadNextTable() }, Kept: KeptTables},
	{Name: "working-set", Data: func(string, *auth.Claims) { HoldSlowly() }},
	{Name: "burst-retention", Data: func(_ string, c *auth.Claims) { Report(c) }},
	{Name: "quota", Data: func(_ string, c *auth.Claims) { CountQuota(c) }, Kept: KeptQuotas},
	{Name: "one-in-20", Data: func(_ string, c *auth.Claims) { LogSlowQuery(c) }, Kept: KeptSlow},
	{Name: "missing-path", Missing: RememberMissing, Kept: KeptMissing},
	{Name: "lru-5000-full", Claims: ClaimsOfLarge, Fill: FillLarge},
	{Name: "two-caches-full", Claims: ClaimsOfTwo, Fill: FillTwo},
	{Name: "ttl-300-full", Claims: ClaimsOfMinutes, Fill: FillMinutes},
	{Name: "gc-sawtooth", Data: func(string, *auth.Claims) { Garbage() }},
}

// Find returns the variant with that name.
func Find(name string) (Variant, error) {
	for _, variant := range variants {
		if variant.Name == name {
			if variant.Kept == nil {
				variant.Kept = nothing
			}
			return variant, nil
		}
	}
	return Variant{}, fmt.Errorf("no variant %q", name)
}
