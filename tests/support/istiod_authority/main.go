package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	k8sauth "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	meshconfig "istio.io/api/mesh/v1alpha1"
	"istio.io/istio/pkg/config/mesh"
	"istio.io/istio/pkg/config/mesh/meshwatcher"
	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/pki/ca"
	caserver "istio.io/istio/security/pkg/server/ca"
	"istio.io/istio/security/pkg/server/ca/authenticate"
	"istio.io/istio/security/pkg/server/ca/authenticate/kubeauth"
)

// istiod's own certificate authority and API of it, put together as its bootstrap does, with the API server's TokenReview
// played: a token is NAMESPACE/NAME of the service account that it stands for, and any other is refused.
// Arguments: a folder, for root-cert.pem, and a file to write the port into. With ca-cert.pem, ca-key.pem, cert-chain.pem and
// root-cert.pem in the folder these sign, as istiod's Secret cacerts; otherwise a root of its own. Ends with SIGTERM, or when
// its standard input does.
func main() {
	folder, portFile := os.Args[1], os.Args[2]
	authority := made(folder)
	bundle := authority.GetCAKeyCertBundle()
	check(os.WriteFile(filepath.Join(folder, "root-cert.pem"), bundle.GetRootCertPem(), 0o644))
	holder := meshwatcher.NewTestWatcher(&meshconfig.MeshConfig{TrustDomain: "cluster.local"})
	service, err := caserver.New(authority, 90*24*time.Hour, []security.Authenticator{
		&authenticate.ClientCertAuthenticator{},
		kubeauth.NewKubeJWTAuthenticator(mesh.Holder(holder), reviews(), "Kubernetes", nil, nil),
	}, nil)
	check(err)
	chain, key, err := authority.GenKeyCert([]string{"istiod.istio-system.svc"}, time.Hour, false)
	check(err)
	certificate, err := tls.X509KeyPair(chain, key)
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle.GetRootCertPem())
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{certificate},
		ClientAuth:   tls.VerifyClientCertIfGiven,
		ClientCAs:    roots,
		MinVersion:   tls.VersionTLS12,
	})))
	service.Register(server)
	port, err := net.Listen("tcp", "127.0.0.1:0")
	check(err)
	check(os.WriteFile(portFile+".part", []byte(fmt.Sprint(port.Addr().(*net.TCPAddr).Port)), 0o644))
	check(os.Rename(portFile+".part", portFile))
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM)
	go func() {
		select {
		case <-ended:
		case <-inputEnds():
		}
		server.Stop()
	}()
	check(server.Serve(port))
}

func made(folder string) *ca.IstioCA {
	file := func(name string) string { return filepath.Join(folder, name) }
	var opts *ca.IstioCAOptions
	var err error
	if _, missing := os.Stat(file("ca-cert.pem")); missing == nil {
		opts, err = ca.NewPluggedCertIstioCAOptions(ca.SigningCAFileBundle{
			SigningCertFile: file("ca-cert.pem"),
			SigningKeyFile:  file("ca-key.pem"),
			CertChainFiles:  []string{file("cert-chain.pem")},
			RootCertFile:    file("root-cert.pem"),
		}, 24*time.Hour, 90*24*time.Hour, 2048)
	} else {
		opts, err = ca.NewSelfSignedDebugIstioCAOptions("", 10*365*24*time.Hour, 24*time.Hour, 90*24*time.Hour, "cluster.local", 2048)
	}
	check(err)
	authority, err := ca.NewIstioCA(opts)
	check(err)
	return authority
}

// reviews is the API server as far as istiod asks it about tokens.
func reviews() *fake.Clientset {
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(action k8stesting.Action) (bool, runtime.Object, error) {
		asked := action.(k8stesting.CreateAction).GetObject().(*k8sauth.TokenReview)
		told := asked.DeepCopy()
		namespace, name, known := strings.Cut(asked.Spec.Token, "/")
		told.Status.Authenticated = known
		told.Status.Audiences = asked.Spec.Audiences
		told.Status.User = k8sauth.UserInfo{Username: "system:serviceaccount:" + namespace + ":" + name, Groups: []string{"system:serviceaccounts"}}
		return true, told, nil
	})
	return client
}

func inputEnds() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	return ended
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
