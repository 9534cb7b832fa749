// A Gin service whose variants leak or not in known ways; see lab/services.toml.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/gin-gonic/gin"

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
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Use(gin.Recovery(), count)
	api := router.Group("/api")
	api.GET("/data", s.getData)
	api.GET("/profile", getProfile)
	api.POST("/upload", postUpload)
	router.GET("/health", func(c *gin.Context) { c.String(http.StatusOK, "ok") })
	router.GET("/users/:id", getUser)
	router.GET("/truth", s.truth)
	log.Fatal(router.Run(*listen))
}

func count(c *gin.Context) {
	path := c.FullPath()
	if path == "/users/:id" {
		path = "/users/{id}"
	}
	token, _ := auth.Bearer(c.Request.Header)
	if path != "/truth" {
		books.Count(c.Request.Method+" "+path, token)
	}
	c.Next()
}

func (s *service) getData(c *gin.Context) {
	token, err := auth.Bearer(c.Request.Header)
	if err != nil {
		c.AbortWithStatus(http.StatusUnauthorized)
		return
	}
	claims, err := s.claims(c, token)
	if err != nil {
		c.AbortWithStatus(http.StatusUnauthorized)
		return
	}
	items := make([]item, 0, 8)
	for id := 1; id <= 8; id++ {
		items = append(items, item{id, fmt.Sprintf("item %d of %s", id, claims.Subject)})
	}
	c.JSON(http.StatusOK, gin.H{"user": claims.Subject, "items": items})
}

func (s *service) claims(c *gin.Context, token string) (*auth.Claims, error) {
	if s.variant.Claims != nil {
		return s.variant.Claims(token)
	}
	return auth.Check(c.Request.Header)
}

func getProfile(c *gin.Context) {
	claims, err := auth.Check(c.Request.Header)
	if err != nil {
		c.AbortWithStatus(http.StatusUnauthorized)
		return
	}
	c.JSON(http.StatusOK, gin.H{"sub": claims.Subject, "email": claims.Email, "roles": claims.Roles})
}

func postUpload(c *gin.Context) {
	body, err := io.ReadAll(c.Request.Body)
	if err != nil {
		c.AbortWithStatus(http.StatusBadRequest)
		return
	}
	c.JSON(http.StatusCreated, gin.H{"bytes": len(body)})
}

func getUser(c *gin.Context) {
	c.JSON(http.StatusOK, gin.H{"id": c.Param("id"), "name": "user " + c.Param("id")})
}

func (s *service) truth(c *gin.Context) {
	c.JSON(http.StatusOK, books.Read(s.variant.Name, s.variant.Kept()))
}
