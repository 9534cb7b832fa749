// A service of fasthttp, which does not use net/http's server (fiber is built on it); see lab/services.toml.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"net/http"
	"strings"

	"github.com/valyala/fasthttp"

	"lab/auth"
	"lab/books"
	"lab/store"
)

var variant store.Variant

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	name := flag.String("variant", "stateless", "what it does with the memory of its requests")
	flag.Parse()
	var err error
	if variant, err = store.Find(*name); err != nil {
		log.Fatal(err)
	}
	if variant.Fill != nil {
		variant.Fill()
	}
	server := &fasthttp.Server{Handler: handle, ReadBufferSize: 64 << 10}
	log.Fatal(server.ListenAndServe(*listen))
}

func handle(ctx *fasthttp.RequestCtx) {
	path := string(ctx.Path())
	if path == "/truth" {
		answer(ctx, books.Read(variant.Name, variant.Kept()))
		return
	}
	route := string(ctx.Method()) + " " + path
	if strings.HasPrefix(path, "/users/") {
		route = "GET /users/{id}"
	}
	header := http.Header{"Authorization": {string(ctx.Request.Header.Peek("Authorization"))}}
	token, _ := auth.Bearer(header)
	books.Count(route, token)
	switch route {
	case "GET /api/data":
		getData(ctx, header, token)
	case "GET /api/profile":
		claims, err := auth.Check(header)
		if err != nil {
			ctx.SetStatusCode(fasthttp.StatusUnauthorized)
			return
		}
		answer(ctx, map[string]interface{}{"sub": claims.Subject, "email": claims.Email})
	case "POST /api/upload":
		answer(ctx, map[string]int{"bytes": len(ctx.PostBody())})
	case "GET /health":
		answer(ctx, "ok")
	case "GET /users/{id}":
		answer(ctx, map[string]string{"id": path[len("/users/"):]})
	default:
		ctx.SetStatusCode(fasthttp.StatusNotFound)
	}
}

func getData(ctx *fasthttp.RequestCtx, header http.Header, token string) {
	claims, err := claimsOf(header, token)
	if err != nil {
		ctx.SetStatusCode(fasthttp.StatusUnauthorized)
		return
	}
	items := make([]string, 0, 8)
	for id := 1; id <= 8; id++ {
		items = append(items, fmt.Sprintf("item %d of %s", id, claims.Subject))
	}
	answer(ctx, map[string]interface{}{"user": claims.Subject, "items": items})
}

func claimsOf(header http.Header, token string) (*auth.Claims, error) {
	if token != "" && variant.Claims != nil {
		return variant.Claims(token)
	}
	return auth.Check(header)
}

func answer(ctx *fasthttp.RequestCtx, value interface{}) {
	ctx.SetContentType("application/json")
	if err := json.NewEncoder(ctx).Encode(value); err != nil {
		log.Print(err)
	}
}
