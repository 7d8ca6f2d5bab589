// gRPC over mTLS by grpc-go and go-spiffe, with an SVID and a bundle in files. Every method takes and gives bytes as they are.
//
//	serve CERT KEY BUNDLE ID        prints its port; each call gets the caller's SPIFFE ID, as often as messages came
//	call CERT KEY BUNDLE ID ADDRESS METHOD   "ok" and the response, or the status that it got
//
// ID is the one that the other side must have.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffegrpc/grpccredentials"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// raw is a codec for messages that are bytes.
type raw struct{}

func (raw) Name() string                       { return "raw" }
func (raw) Marshal(v any) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v any) error { *v.(*[]byte) = append([]byte(nil), data...); return nil }

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Println("refused:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	svid, err := x509svid.Load(args[1], args[2])
	if err != nil {
		return err
	}
	bundle, err := x509bundle.Load(svid.ID.TrustDomain(), args[3])
	if err != nil {
		return err
	}
	other, err := spiffeid.FromString(args[4])
	if err != nil {
		return err
	}
	authorize := tlsconfig.AuthorizeID(other)
	if args[0] == "serve" {
		return serve(svid, bundle, authorize)
	}
	return call(svid, bundle, authorize, args[5], args[6])
}

func serve(svid *x509svid.SVID, bundle *x509bundle.Bundle, authorize tlsconfig.Authorizer) error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := grpc.NewServer(
		grpc.Creds(grpccredentials.MTLSServerCredentials(svid, bundle, authorize)),
		grpc.ForceServerCodec(raw{}),
		grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
			id, ok := grpccredentials.PeerIDFromContext(stream.Context())
			if !ok {
				return errors.New("the caller has no SPIFFE ID")
			}
			said := []byte(id.String())
			for {
				var message []byte
				if err := stream.RecvMsg(&message); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := stream.SendMsg(&said); err != nil {
					return err
				}
			}
		}),
	)
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	return server.Serve(listener)
}

func call(svid *x509svid.SVID, bundle *x509bundle.Bundle, authorize tlsconfig.Authorizer, address, method string) error {
	conn, err := grpc.NewClient(
		"passthrough:///"+address,
		grpc.WithTransportCredentials(grpccredentials.MTLSClientCredentials(svid, bundle, authorize)),
	)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	request, response := []byte{}, []byte{}
	if err := conn.Invoke(ctx, method, &request, &response, grpc.ForceCodec(raw{})); err != nil {
		return fmt.Errorf("%s: %s", status.Code(err), status.Convert(err).Message())
	}
	fmt.Println("ok", string(response))
	return nil
}
