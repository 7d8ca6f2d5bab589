package main

import (
	"fmt"
	"os"

	"istio.io/istio/pkg/security"
	"istio.io/istio/security/pkg/nodeagent/caclient/providers/citadel"
	pkiutil "istio.io/istio/security/pkg/pki/util"
)

// Istio's own client of its CA, as its agent uses it. Arguments: address, token file, root file, the SPIFFE ID of the request, and
// the files of a certificate and its key; "" for what there is not. Prints the key and the chain.
func main() {
	tls := &citadel.TLSOptions{RootCert: os.Args[3]}
	if os.Args[5] != "" {
		tls.Cert, tls.Key = os.Args[5], os.Args[6]
	}
	opts := &security.Options{CAEndpoint: os.Args[1], CAEndpointSAN: "istiod.istio-system.svc", ClusterID: "Kubernetes"}
	if os.Args[2] != "" {
		opts.CredFetcher = fetcher(os.Args[2])
	}
	client, err := citadel.NewCitadelClient(opts, tls)
	check(err)
	csr, key, err := pkiutil.GenCSR(pkiutil.CertOptions{Host: os.Args[4], ECSigAlg: pkiutil.EcdsaSigAlg})
	check(err)
	chain, err := client.CSRSign(csr, 3600)
	check(err)
	fmt.Print(string(key), "\n-- chain --\n")
	for _, each := range chain {
		fmt.Print(each)
	}
}

type fetcher string

func (f fetcher) GetPlatformCredential() (string, error) {
	raw, err := os.ReadFile(string(f))
	return string(raw), err
}
func (f fetcher) GetIdentityProvider() string { return "" }
func (f fetcher) Stop()                        {}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
