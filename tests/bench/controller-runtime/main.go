// A webhook of the same kind, built on controller-runtime as the Kubebuilder book shows it. `make
// bench` measures it, to show what the usual way costs.
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager/signals"
	"sigs.k8s.io/controller-runtime/pkg/webhook"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"
)

type optIn struct {
	decoder admission.Decoder
}

// Handle decodes the Namespace, looks at one annotation, and logs the decision.
func (rule *optIn) Handle(ctx context.Context, request admission.Request) admission.Response {
	namespace := &corev1.Namespace{}
	if err := rule.decoder.Decode(request, namespace); err != nil {
		return admission.Errored(http.StatusBadRequest, err)
	}
	value, found := namespace.Annotations["chaos"]
	allowed := !found || value == "yes"
	log.FromContext(ctx).Info("decided", "user", request.UserInfo.Username, "operation", request.Operation, "allowed", allowed)
	if !allowed {
		return admission.Denied(fmt.Sprintf("chaos: %q is not yes", value))
	}
	return admission.Allowed("")
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
}

// run serves at the address of the first argument, with the certificate in the folder of the second.
func run() error {
	log.SetLogger(zap.New())
	host, service, err := net.SplitHostPort(os.Args[1])
	if err != nil {
		return err
	}
	port, err := strconv.Atoi(service)
	if err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	if err := corev1.AddToScheme(scheme); err != nil {
		return err
	}
	server := webhook.NewServer(webhook.Options{Host: host, Port: port, CertDir: os.Args[2]})
	server.Register("/opt-in/", &webhook.Admission{Handler: &optIn{admission.NewDecoder(scheme)}})
	return server.Start(signals.SetupSignalHandler())
}
