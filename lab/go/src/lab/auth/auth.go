// Package auth checks Bearer tokens: JWTs signed with HS256.
package auth

import (
	"errors"
	"net/http"
	"strings"

	"github.com/golang-jwt/jwt"
)

// The load generator signs with it.
var secret = []byte("heaptide-lab-hs256-secret")

// ErrNoToken means that a request has no usable token.
var ErrNoToken = errors.New("no valid bearer token")

// Claims are the claims of a token.
type Claims struct {
	Subject  string            `json:"sub"`
	Issuer   string            `json:"iss"`
	Audience string            `json:"aud"`
	ID       string            `json:"jti"`
	Email    string            `json:"email"`
	Scope    string            `json:"scope"`
	Roles    []string          `json:"roles"`
	IssuedAt int64             `json:"iat"`
	Expires  int64             `json:"exp"`
	Custom   map[string]string `json:"custom"`
}

// Valid is called by the JWT library after the signature check.
func (c *Claims) Valid() error {
	if c.Expires < jwt.TimeFunc().Unix() {
		return ErrNoToken
	}
	return nil
}

// Key returns the key for the JWT library.
func Key(*jwt.Token) (interface{}, error) { return secret, nil }

// Bearer is the token of a request.
func Bearer(header http.Header) (string, error) {
	value := header.Get("Authorization")
	if !strings.HasPrefix(value, "Bearer ") {
		return "", ErrNoToken
	}
	return value[len("Bearer "):], nil
}

// Check decodes and checks the token of a request.
func Check(header http.Header) (*Claims, error) {
	token, err := Bearer(header)
	if err != nil {
		return nil, err
	}
	claims := &Claims{}
	if _, err := jwt.ParseWithClaims(token, claims, Key); err != nil {
		return nil, ErrNoToken
	}
	return claims, nil
}
