//go:debug httpmuxgo121=0

// A plain net/http service whose variants leak or not in known ways; see lab/services.toml.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net/http"
	"time"

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
	secure := flag.Bool("tls", false, "serve TLS, and with it HTTP/2, by a certificate made for the occasion")
	flag.Parse()
	variant, err := store.Find(*name)
	if err != nil {
		log.Fatal(err)
	}
	if variant.Fill != nil {
		variant.Fill()
	}
	if variant.Beside != nil {
		go variant.Beside()
	}
	s := &service{variant}
	mux := http.NewServeMux()
	handle := func(pattern string, handler http.HandlerFunc) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			token, _ := auth.Bearer(r.Header)
			books.Count(pattern, token)
			if s.variant.Any != nil {
				s.variant.Any(pattern)
			}
			handler(w, r)
		})
	}
	handle("GET /api/data", s.getData)
	handle("GET /api/profile", getProfile)
	handle("POST /api/upload", s.postUpload)
	handle("GET /health", health)
	handle("GET /users/{id}", getUser)
	mux.HandleFunc("GET /truth", s.truth)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		if s.variant.Missing != nil {
			s.variant.Missing(r.URL.Path)
		}
		http.NotFound(w, r)
	})
	if *secure {
		server := &http.Server{Addr: *listen, Handler: mux, TLSConfig: &tls.Config{Certificates: certificates()}}
		log.Fatal(server.ListenAndServeTLS("", ""))
	}
	log.Fatal(http.ListenAndServe(*listen, mux))
}

// A self-signed certificate.
func certificates() []tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	subject := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(24 * time.Hour)}
	signed, err := x509.CreateCertificate(rand.Reader, subject, subject, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return []tls.Certificate{{Certificate: [][]byte{signed}, PrivateKey: key}}
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
	if s.variant.Data != nil {
		s.variant.Data(token, claims)
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

func (s *service) postUpload(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, r.ContentLength)
	if _, err := io.ReadFull(r.Body, body); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	if s.variant.Upload != nil {
		s.variant.Upload(body)
	}
	answer(w, http.StatusCreated, map[string]int{"bytes": len(body)})
}

func health(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }

func getUser(w http.ResponseWriter, r *http.Request) {
	answer(w, http.StatusOK, map[string]string{"id": r.PathValue("id"), "name": "user " + r.PathValue("id")})
}

func (s *service) truth(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, books.Read(s.variant.Name, s.variant.Kept()))
}
