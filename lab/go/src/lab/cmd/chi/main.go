// A chi service whose variants leak or not in known ways; see lab/services.toml.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/go-chi/chi"

	"lab/auth"
	"lab/books"
	"lab/store"
)

type item struct {
	ID   int    `json:"id"`
	Name string `json:"name"`
}

type service struct{ variant store.Variant }

func main() {
	listen := flag.String("listen", "127.0.0.1:8080", "where to listen")
	name := flag.String("variant", "stateless", "what it does with the memory of its requests")
	flag.Parse()
	variant, err := store.Find(*name)
	if err != nil {
		log.Fatal(err)
	}
	if variant.Fill != nil {
		variant.Fill()
	}
	s := &service{variant}
	router := chi.NewRouter()
	router.Use(count)
	router.Route("/api", func(api chi.Router) {
		api.Get("/data", s.getData)
		api.Get("/profile", getProfile)
		api.Post("/upload", postUpload)
	})
	router.Get("/health", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	router.Get("/users/{id}", getUser)
	router.Get("/truth", s.truth)
	log.Fatal(http.ListenAndServe(*listen, router))
}

func count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r)
		token, _ := auth.Bearer(r.Header)
		if path := chi.RouteContext(r.Context()).RoutePattern(); path != "/truth" {
			books.Count(r.Method+" "+path, token)
		}
	})
}

func answer(w http.ResponseWriter, status int, value interface{}) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(value); err != nil {
		log.Print(err)
	}
}

func (s *service) getData(w http.ResponseWriter, r *http.Request) {
	token, err := auth.Bearer(r.Header)
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	claims, err := s.claims(r, token)
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	items := make([]item, 0, 8)
	for id := 1; id <= 8; id++ {
		items = append(items, item{id, fmt.Sprintf("item %d of %s", id, claims.Subject)})
	}
	answer(w, http.StatusOK, map[string]interface{}{"user": claims.Subject, "items": items})
}

func (s *service) claims(r *http.Request, token string) (*auth.Claims, error) {
	if s.variant.Claims != nil {
		return s.variant.Claims(token)
	}
	return auth.Check(r.Header)
}

func getProfile(w http.ResponseWriter, r *http.Request) {
	claims, err := auth.Check(r.Header)
	if err != nil {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	answer(w, http.StatusOK, map[string]interface{}{"sub": claims.Subject, "email": claims.Email, "roles": claims.Roles})
}

func postUpload(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	answer(w, http.StatusCreated, map[string]int{"bytes": len(body)})
}

func getUser(w http.ResponseWriter, r *http.Request) {
	id := chi.URLParam(r, "id")
	answer(w, http.StatusOK, map[string]string{"id": id, "name": "user " + id})
}

func (s *service) truth(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, books.Read(s.variant.Name, s.variant.Kept()))
}
