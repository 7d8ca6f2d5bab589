// What go-spiffe makes of an SVID and a bundle in files: "verified <SPIFFE ID>", or why not. With two more arguments it also
// shakes hands with itself over both files, as client and as server.
package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
)

func main() {
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

func run(domain, cert, key, roots string) error {
	trustDomain, err := spiffeid.TrustDomainFromString(domain)
	if err != nil {
		return err
	}
	bundle, err := x509bundle.Load(trustDomain, roots)
	if err != nil {
		return err
	}
	svid, err := x509svid.Load(cert, key)
	if err != nil {
		return err
	}
	raw := make([][]byte, 0, len(svid.Certificates))
	for _, each := range svid.Certificates {
		raw = append(raw, each.Raw)
	}
	id, _, err := x509svid.ParseAndVerify(raw, bundle)
	if err != nil {
		return err
	}
	if err := shake(svid, bundle, id); err != nil {
		return err
	}
	fmt.Println("verified", id)
	return nil
}

func shake(svid *x509svid.SVID, bundle *x509bundle.Bundle, id spiffeid.ID) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err == nil {
			server := tls.Server(conn, tlsconfig.MTLSServerConfig(svid, bundle, tlsconfig.AuthorizeID(id)))
			err = server.Handshake()
			server.Close()
		}
		served <- err
	}()
	client, err := tls.Dial("tcp", listener.Addr().String(), tlsconfig.MTLSClientConfig(svid, bundle, tlsconfig.AuthorizeID(id)))
	if err != nil {
		return err
	}
	defer client.Close()
	return <-served
}
