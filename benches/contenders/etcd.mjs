// Locks on etcd: two floors by bare HTTP/2, and the client that people use.
import http2 from "node:http2"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
const TTL = 30n

/* As much of protobuf as five requests need: fields of bytes (wire type 2) and of numbers (wire type 0), all numbers below 16. */

const varint = (number) => {
    const bytes = []
    for (let rest = BigInt.asUintN(64, number); ; rest >>= 7n) {
        bytes.push(Number(rest & 127n) | (rest > 127n ? 128 : 0))
        if (rest <= 127n)
            return Buffer.from(bytes)
    }
}
const bytesField = (field, value) => Buffer.concat([ Buffer.of(field << 3 | 2), varint(BigInt(value.length)), Buffer.from(value) ])
const numberField = (field, value) => Buffer.concat([ Buffer.of(field << 3), varint(value) ])

function* fieldsOf (bytes) {
    let at = 0
    const number = () => {
        let value = 0n
        for (let shift = 0n; ; shift += 7n) {
            const byte = bytes[at++]
            value |= BigInt(byte & 127) << shift
            if (byte < 128)
                return value
        }
    }
    while (at < bytes.length) {
        const tag = Number(number())
        if ((tag & 7) === 0)
            yield [ tag >> 3, number() ]
        else {
            const length = Number(number())
            yield [ tag >> 3, bytes.subarray(at, at += length) ]
        }
    }
}

const fieldOf = (bytes, wanted) => [ ...fieldsOf(bytes) ].find(([ field ]) => field === wanted)?.[1]

/** Calls of gRPC with one message each way. */
class Channel {
    constructor ({ host, port }) {
        this.session = http2.connect(`http://${host}:${port}`)
        // Node turns Nagle's algorithm off for HTTP/2 by itself.
    }

    call (path, body) {
        return new Promise((resolve, reject) => {
            const stream = this.session.request({ ":method": "POST", ":path": path, "content-type": "application/grpc", te: "trailers" })
            const frame = Buffer.alloc(5)
            frame.writeUInt32BE(body.length, 1)
            const chunks = []
            let status
            stream.on("data", (chunk) => chunks.push(chunk))
            stream.on("response", (headers) => { status = headers["grpc-status"] })
            stream.on("trailers", (headers) => { status = headers["grpc-status"] })
            stream.on("error", reject)
            stream.on("end", () => {
                if (Number(status ?? 0) !== 0)
                    reject(new Error(`${path}: status ${status}`))
                else
                    resolve((chunks.length === 1 ? chunks[0] : Buffer.concat(chunks)).subarray(5))
            })
            stream.end(Buffer.concat([ frame, body ]))
        })
    }

    close () {
        this.session.close()
    }
}

/** Two puts: each changes the server's state once, as a lock must. */
export function floor (target) {
    const channel = new Channel(target)
    const put = (key, value) => channel.call("/etcdserverpb.KV/Put", Buffer.concat([ bytesField(1, key), bytesField(2, value) ]))
    return {
        excludes: false,
        lock: (id) => ({ acquire: () => put(`floor/${id}`, "1"), release: () => put(`floor/${id}`, "0") }),
        close: () => channel.close()
    }
}

/** The server's own lock service, all locks on one lease. */
export async function lockService (target) {
    const channel = new Channel(target)
    const lease = fieldOf(await channel.call("/etcdserverpb.Lease/LeaseGrant", numberField(1, TTL)), 2)
    return {
        lock (id) {
            const take = Buffer.concat([ bytesField(1, `service/${id}`), numberField(2, lease) ])
            let key
            return {
                acquire: async () => { key = fieldOf(await channel.call("/v3lockpb.Lock/Lock", take), 2) },
                release: () => channel.call("/v3lockpb.Lock/Unlock", bytesField(1, key))
            }
        },
        async close () {
            await channel.call("/etcdserverpb.Lease/LeaseRevoke", numberField(1, lease))
            channel.close()
        }
    }
}

/** etcd3: it cannot wait, so it asks again after 50 ms. */
export function etcd3 (target) {
    return etcd3With(target, 30)
}

export function etcd3Renewed (target) {
    return etcd3With(target, 2)
}

function etcd3With ({ host, port }, ttl) {
    const { Etcd3, EtcdLockFailedError } = require("etcd3")
    const client = new Etcd3({ hosts: `http://${host}:${port}` })
    return {
        lock (id) {
            let held
            return {
                acquire: async () => {
                    for (;;)
                        try {
                            const lock = client.lock(`etcd3/${id}`).ttl(ttl)
                            await lock.acquire()
                            held = lock
                            return
                        }
                        catch (error) {
                            if (!(error instanceof EtcdLockFailedError))
                                throw error
                            await new Promise((resolve) => setTimeout(resolve, 50))
                        }
                },
                release: () => held.release()
            }
        },
        close: () => client.close()
    }
}
