#!/bin/sh
# Makes the certificates of the tests anew, in the folder of this script. Valid for 100 years, worth nothing elsewhere.
#
#   ca.pem                              the authority that clients are told to trust (its key is thrown away)
#   server.pem      server-key.pem      localhost, 127.0.0.1, ::1; also fit as a client (etcd's gateway calls itself)
#   client.pem      client-key.pem      a client of ca.pem
#   expired.pem     expired-key.pem     like server.pem, but over since 2021
#   wrong-name.pem  wrong-name-key.pem  of ca.pem, for a host that no test has
#   unknown-ca.pem                      an authority that signed none of the above
#   unknown-client.pem, -key.pem        a client of unknown-ca.pem
set -eu
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
began=20200101000000Z
ends=21200101000000Z

key () { # file
    openssl ecparam -name prime256v1 -genkey -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"
}

sign () { # authority name request extensions end [more options]
    config="$work/$1.cnf" request="$work/$3" output="$2.pem" extensions="$work/$4" end=$5
    shift 5
    # "openssl ca" rather than "openssl x509", because that cannot set the first day of validity
    openssl ca -batch -notext -config "$config" -in "$request" -out "$output" -extfile "$extensions" \
        -startdate "$began" -enddate "$end" "$@" 2> "$work/log" || { cat "$work/log" >&2; exit 1; }
}

authority () { # name
    key "$work/$1-key.pem"
    openssl req -new -key "$work/$1-key.pem" -subj "/CN=ipc-mutex test $1" -out "$work/$1.csr"
    : > "$work/$1.index"
    mkdir "$work/$1.d"
    cat > "$work/$1.cnf" <<END
[ca]
default_ca = test
[test]
database = $work/$1.index
new_certs_dir = $work/$1.d
rand_serial = yes
certificate = $1.pem
private_key = $work/$1-key.pem
default_md = sha256
unique_subject = no
policy = any
[any]
commonName = supplied
END
    cat > "$work/$1.ext" <<END
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
END
    sign "$1" "$1" "$1.csr" "$1.ext" "$ends" -selfsign -keyfile "$work/$1-key.pem"
}

certificate () { # authority name usage alternative-names end
    key "$2-key.pem"
    openssl req -new -key "$2-key.pem" -subj "/CN=$2" -out "$work/$2.csr"
    cat > "$work/$2.ext" <<END
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = $3
subjectAltName = $4
authorityKeyIdentifier = keyid
END
    sign "$1" "$2" "$2.csr" "$2.ext" "$5"
}

authority ca
authority unknown-ca
certificate ca server serverAuth,clientAuth DNS:localhost,IP:127.0.0.1,IP:::1 "$ends"
certificate ca client clientAuth DNS:client "$ends"
certificate ca expired serverAuth,clientAuth DNS:localhost,IP:127.0.0.1,IP:::1 20210101000000Z
certificate ca wrong-name serverAuth,clientAuth DNS:elsewhere.invalid "$ends"
certificate unknown-ca unknown-client clientAuth DNS:unknown-client "$ends"
