// Command stock knows what is left, in Go without a module. It knows nothing of certificates, versions or retries: the proxy
// beside it does. SOCKET is where it takes the requests that its proxy lets in; its own go where HTTP_PROXY says, as those of
// every program in Go do.
//
//	GET /stock/{id}    from web (Node.js); asks prices (Python)
//	GET /levels/{id}   from prices
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// forwarded goes on with the calls that a request leads to, as Istio asks of applications.
var forwarded = []string{"traceparent", "tracestate", "x-request-id", "x-canary", "x-drill"}

var uri = regexp.MustCompile(`URI=([^;,]*)`)

var client = &http.Client{Timeout: 15 * time.Second}

// Seen is how a request came.
type Seen struct {
	Service  string `json:"service"`
	Language string `json:"language"`
	Path     string `json:"path"`
	Caller   string `json:"caller"`
	Trace    string `json:"trace"`
	Attempt  string `json:"attempt"`
}

// Price is what prices responds with.
type Price struct {
	Cents int    `json:"cents"`
	Seen  []Seen `json:"seen"`
}

// Product is what is known here of one.
type Product struct {
	ID      string `json:"id"`
	Left    int    `json:"left"`
	Cents   int    `json:"cents,omitempty"`
	Version string `json:"version"`
	Seen    []Seen `json:"seen"`
}

// seen reads the caller from X-Forwarded-Client-Cert, where the proxy has put its certificate, itself, last.
func seen(r *http.Request) Seen {
	found := Seen{Service: "stock", Language: "Go", Path: r.URL.Path, Attempt: r.Header.Get("x-envoy-attempt-count")}
	if all := uri.FindAllStringSubmatch(r.Header.Get("x-forwarded-client-cert"), -1); all != nil {
		found.Caller = all[len(all)-1][1]
	}
	if parts := strings.Split(r.Header.Get("traceparent"), "-"); len(parts) == 4 {
		found.Trace = parts[1]
	}
	return found
}

// price asks prices. The status is what to respond with when there is an error.
func price(r *http.Request, id string) (Price, int, error) {
	var found Price
	request, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://prices:8080/prices/"+id, nil)
	if err != nil {
		return found, http.StatusBadRequest, err
	}
	for _, name := range forwarded {
		if value := r.Header.Get(name); value != "" {
			request.Header.Set(name, value)
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return found, http.StatusBadGateway, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return found, response.StatusCode, fmt.Errorf("prices responded with %s", response.Status)
	}
	return found, http.StatusBadGateway, json.NewDecoder(response.Body).Decode(&found)
}

func respond(w http.ResponseWriter, status int, body any) {
	w.Header().Set("content-type", "application/json")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		log.Print(err)
	}
}

func main() {
	version := os.Getenv("VERSION")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /levels/{id}", func(w http.ResponseWriter, r *http.Request) {
		respond(w, http.StatusOK, Product{ID: r.PathValue("id"), Left: 3, Version: version, Seen: []Seen{seen(r)}})
	})
	mux.HandleFunc("GET /stock/{id}", func(w http.ResponseWriter, r *http.Request) {
		id := r.PathValue("id")
		found, status, err := price(r, id)
		if err != nil {
			respond(w, status, map[string]string{"error": err.Error()})
			return
		}
		all := append([]Seen{seen(r)}, found.Seen...)
		respond(w, http.StatusOK, Product{ID: id, Left: 3, Cents: found.Cents, Version: version, Seen: all})
	})

	listener, err := net.Listen("unix", os.Getenv("SOCKET"))
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	context.AfterFunc(stop, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
}
