#!/usr/bin/env bash
# Writes the cluster's keys and kubeconfigs (once) and the settings of its processes (each time) below .cluster/NAME.
set -euo pipefail
# shellcheck source=hack/cluster/env.sh
. "$(dirname "$0")/env.sh"

config="$CLUSTER/config"
mkdir -p "$config/certs.d/docker.io" "$config/certs.d/$REGISTRY" "$config/cni"

if [[ ! -d $CLUSTER/pki ]]; then
    # The script creates the keys in a temporary folder and renames it when it is complete, so that
    # no process ever uses half a set of keys.
    new="$CLUSTER/pki.new"
    rm -rf "$new"
    mkdir -p "$new"
    # Without kubernetesVersion, kubeadm would ask the internet for the newest version.
    cat >"$config/kubeadm.yaml" <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
localAPIEndpoint: {advertiseAddress: $NODE_IP}
nodeRegistration: {name: node}
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: "$NAME"
kubernetesVersion: $("$KUBERNETES_BIN/kubelet" --version | cut -d' ' -f2)
controlPlaneEndpoint: $NODE_IP:6443
certificatesDir: $new
encryptionAlgorithm: ECDSA-P256
networking: {serviceSubnet: $SERVICE_RANGE, podSubnet: $POD_RANGE}
END
    "$KUBERNETES_BIN/kubeadm" init phase certs all --config "$config/kubeadm.yaml"
    "$KUBERNETES_BIN/kubeadm" init phase kubeconfig all --config "$config/kubeadm.yaml" --kubeconfig-dir "$new"
    "$KUBERNETES_BIN/kubeadm" kubeconfig user --config "$config/kubeadm.yaml" --client-name system:kube-proxy >"$new/kube-proxy.conf"
    mv "$new" "$CLUSTER/pki"
fi
install -m 600 "$CLUSTER/pki/admin.conf" "$KUBECONFIG_FILE"

cat >"$config/audit.yaml" <<END
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: [system:serviceaccounts:pure-chaos]
  - level: None
END

# node.sh imports the sandbox image under this name before the kubelet starts.
cat >"$config/containerd.toml" <<END
version = 3

[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = 'localhost/pause:local'
  [plugins.'io.containerd.cri.v1.images'.registry]
    config_path = '$config/certs.d'

[plugins.'io.containerd.internal.v1.opt']
  path = '/var/lib/containerd/opt'

[plugins.'io.containerd.cri.v1.runtime']
  # A loaded profile would outlive the cluster.
  disable_apparmor = true
  # runc may not lower oom_score_adj where the host withholds CAP_SYS_RESOURCE.
  restrict_oom_score_adj = true
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    bin_dirs = ['$BIN']
    conf_dir = '$config/cni'
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = 'io.containerd.runc.v2'
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = '$(command -v runc)'
      SystemdCgroup = false
END

# A short name such as chentex/random-logger means docker.io. In this cluster, containerd pulls such
# images from the cluster's own registry, over plain HTTP.
for host in docker.io "$REGISTRY"; do
    cat >"$config/certs.d/$host/hosts.toml" <<END
server = 'http://$REGISTRY'
[host.'http://$REGISTRY']
  capabilities = ['pull', 'resolve']
END
done

cat >"$config/registry.yaml" <<END
version: 0.1
log: {level: warn, accesslog: {disabled: true}}
storage:
  filesystem: {rootdirectory: /run/registry}
  delete: {enabled: true}
http: {addr: "$REGISTRY"}
END

# Pods have point-to-point links instead of a bridge. Traffic between two Pods of one node through a
# Service then passes the node's rules in both directions.
cat >"$config/cni/pods.conflist" <<END
{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {
      "type": "ptp",
      "ipam": {"type": "host-local", "ranges": [[{"subnet": "$POD_RANGE"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "backend": "nftables", "capabilities": {"portMappings": true}}
  ]
}
END

# No DNS server runs. clusterDNS is set nevertheless, because without it each Pod gets a warning
# Event.
# syncFrequency is short, because by default a changed Secret or ConfigMap can take a minute to
# reach a Pod.
cat >"$config/kubelet.yaml" <<END
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: $CLUSTER/pki/ca.crt}
authorization: {mode: Webhook}
cgroupDriver: cgroupfs
cgroupRoot: /$ID
clusterDNS: [$DNS_IP]
clusterDomain: cluster.local
configMapAndSecretChangeDetectionStrategy: Watch
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
evictionHard: {memory.available: 50Mi, nodefs.available: 1%, nodefs.inodesFree: 1%, imagefs.available: 1%}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
makeIPTablesUtilChains: false
maxPods: 200
oomScoreAdj: 0
protectKernelDefaults: true
registryPullQPS: 0
resolvConf: ""
serializeImagePulls: false
syncFrequency: 1s
volumePluginDir: /var/lib/kubelet/volume-plugins
END

# maxPerCore is 0, because a process in a network namespace cannot change the host's limit of
# tracked connections.
cat >"$config/kube-proxy.yaml" <<END
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $CLUSTER/pki/kube-proxy.conf}
clusterCIDR: $POD_RANGE
conntrack: {maxPerCore: 0}
hostnameOverride: node
mode: nftables
nftables: {minSyncPeriod: 100ms}
nodePortAddresses: [primary]
oomScoreAdj: 0
END
