// An Echo service whose variants leak or not in known ways; see lab/services.toml.
package main

import (
	"flag"
	"fmt"
	"io"
	"log"
	"net/http"

	"github.com/labstack/echo"

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
	if variant.Beside != nil {
		go variant.Beside()
	}
	s := &service{variant}
	e := echo.New()
	e.HideBanner, e.HidePort = true, true
	e.Use(s.count)
	e.HTTPErrorHandler = func(err error, c echo.Context) {
		if failed, ok := err.(*echo.HTTPError); ok && failed.Code == http.StatusNotFound && s.variant.Missing != nil {
			s.variant.Missing(c.Request().URL.Path)
		}
		e.DefaultHTTPErrorHandler(err, c)
	}
	e.GET("/api/data", s.getData)
	e.GET("/api/profile", getProfile)
	e.POST("/api/upload", s.postUpload)
	e.GET("/health", health)
	e.GET("/users/:id", getUser)
	e.GET("/truth", s.truth)
	log.Fatal(e.Start(*listen))
}

func (s *service) count(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		path := c.Path()
		if path == "/users/:id" {
			path = "/users/{id}"
		}
		token, _ := auth.Bearer(c.Request().Header)
		if path != "/truth" {
			books.Count(c.Request().Method+" "+path, token)
			if s.variant.Any != nil {
				s.variant.Any(c.Request().Method + " " + path)
			}
		}
		return next(c)
	}
}

func (s *service) getData(c echo.Context) error {
	token, err := auth.Bearer(c.Request().Header)
	if err != nil {
		return c.NoContent(http.StatusUnauthorized)
	}
	claims, err := s.claims(c, token)
	if err != nil {
		return c.NoContent(http.StatusUnauthorized)
	}
	if s.variant.Data != nil {
		s.variant.Data(token, claims)
	}
	items := make([]item, 0, 8)
	for id := 1; id <= 8; id++ {
		items = append(items, item{id, fmt.Sprintf("item %d of %s", id, claims.Subject)})
	}
	return c.JSON(http.StatusOK, map[string]interface{}{"user": claims.Subject, "items": items})
}

func (s *service) claims(c echo.Context, token string) (*auth.Claims, error) {
	if s.variant.Claims != nil {
		return s.variant.Claims(token)
	}
	return auth.Check(c.Request().Header)
}

func getProfile(c echo.Context) error {
	claims, err := auth.Check(c.Request().Header)
	if err != nil {
		return c.NoContent(http.StatusUnauthorized)
	}
	return c.JSON(http.StatusOK, map[string]interface{}{"sub": claims.Subject, "email": claims.Email, "roles": claims.Roles})
}

func (s *service) postUpload(c echo.Context) error {
	body, err := readBody(c.Request())
	if err != nil {
		return err
	}
	if s.variant.Upload != nil {
		s.variant.Upload(body)
	}
	return c.JSON(http.StatusCreated, map[string]int{"bytes": len(body)})
}

func readBody(request *http.Request) ([]byte, error) {
	body := make([]byte, request.ContentLength)
	_, err := io.ReadFull(request.Body, body)
	return body, err
}

func health(c echo.Context) error { return c.String(http.StatusOK, "ok") }

func getUser(c echo.Context) error {
	return c.JSON(http.StatusOK, map[string]string{"id": c.Param("id"), "name": "user " + c.Param("id")})
}

func (s *service) truth(c echo.Context) error {
	return c.JSON(http.StatusOK, books.Read(s.variant.Name, s.variant.Kept()))
}
