// A plain PostgreSQL client for the tests' own views of a server and for contenders of the 1.1.2 kind:
// protocol 3.0, trust, clear text, MD5 and SCRAM-SHA-256, simple queries only.
import { connect } from "node:net"
import { createHash, createHmac, pbkdf2Sync, randomBytes } from "node:crypto"

/** Connects on the first query and again after a cut. */
export class PgClient {
    #target
    #login
    #session

    /**
     * @param {object} target for net.connect: `{ path }` (of the socket itself) or `{ host, port }`
     * @param {{ user: string, password?: string, database?: string, application?: string }} login
     */
    constructor (target, login) {
        this.#target = target
        this.#login = login
    }

    /** Server process of this session, undefined before the first query and after a cut. */
    get pid () { return this.#session?.pid }

    /**
     * Runs `sql` and resolves with the rows of its last statement that gave any, each an array of texts and nulls.
     * A server error rejects with its message and the SQLSTATE as `code`. One query at a time per client is run;
     * further ones queue.
     */
    async query (sql) {
        if (this.#session === undefined || this.#session.closed)
            this.#session = new Session(this.#target, this.#login)
        return this.#session.query(sql)
    }

    disconnect () {
        this.#session?.end()
        this.#session = undefined
    }
}

class Session {
    pid
    closed = false
    #socket
    #login
    #input = Buffer.alloc(0)
    #ready
    #settleReady
    #running
    #last = Promise.resolve()

    constructor (target, login) {
        this.#login = login
        this.#ready = new Promise((resolve, reject) => { this.#settleReady = { resolve, reject } })
        this.#ready.catch(() => {})
        this.#socket = connect(target, () => {
            const pairs = [ "user", login.user, "database", login.database ?? "template1", "application_name", login.application ?? "test support" ]
            const body = Buffer.from(`${pairs.join("\0")}\0\0`)
            this.#socket.write(Buffer.concat([ int32(body.length + 8), int32(196608), body ]))
        })
        this.#socket.on("error", (error) => this.#fail(error))
        this.#socket.on("close", () => this.#fail(new Error("connection closed")))
        this.#socket.on("data", (data) => {
            this.#input = Buffer.concat([ this.#input, data ])
            try {
                this.#read()
            }
            catch (error) {
                this.#fail(error)
            }
        })
    }

    query (sql) {
        const result = this.#last.then(async () => {
            this.#socket.ref()
            await this.#ready
            return await new Promise((resolve, reject) => {
                if (this.closed)
                    throw new Error("connection closed")
                this.#running = { resolve, reject, rows: [], error: undefined }
                this.#write("Q", Buffer.from(`${sql}\0`))
            })
        })
        this.#last = result.catch(() => {}).then(() => { this.#socket.unref() })
        return result
    }

    end () {
        if (!this.closed && this.#socket.writable)
            this.#write("X", Buffer.alloc(0))
        this.#socket.destroySoon()
        this.#fail(new Error("disconnected"))
    }

    #fail (error) {
        this.closed = true
        this.#socket.destroySoon()
        this.#settleReady.reject(error)
        this.#running?.reject(error)
        this.#running = undefined
    }

    #write (type, body) {
        this.#socket.write(Buffer.concat([ Buffer.from(type), int32(body.length + 4), body ]))
    }

    #read () {
        while (this.#input.length >= 5) {
            const length = this.#input.readInt32BE(1) + 1
            if (this.#input.length < length)
                return
            const type = String.fromCharCode(this.#input[0])
            const body = this.#input.subarray(5, length)
            this.#input = this.#input.subarray(length)
            this.#message(type, body)
        }
    }

    #message (type, body) {
        switch (type) {
            case "R": this.#authenticate(body.readInt32BE(0), body.subarray(4)); break
            case "K": this.pid = body.readInt32BE(0); break
            case "D": this.#running?.rows.push(row(body)); break
            case "T": if (this.#running) this.#running.rows = []; break
            case "E": {
                const fields = Object.fromEntries(body.toString().split("\0").filter(Boolean).map((field) => [ field[0], field.slice(1) ]))
                const error = Object.assign(new Error(fields.M), { code: fields.C, severity: fields.S })
                if (this.#running)
                    this.#running.error = error
                else
                    this.#fail(error)
                break
            }
            case "Z": {
                this.#settleReady.resolve()
                const { resolve, reject, rows, error } = this.#running ?? {}
                this.#running = undefined
                if (error)
                    reject(error)
                else
                    resolve?.(rows)
                break
            }
            // parameters, notices and completions are of no interest
        }
    }

    #scram
    #authenticate (method, rest) {
        const { user, password = "" } = this.#login
        const md5 = (...parts) => createHash("md5").update(Buffer.concat(parts.map((part) => Buffer.from(part)))).digest("hex")
        switch (method) {
            case 0: break // done, or not needed
            case 3: this.#write("p", Buffer.from(`${password}\0`)); break
            case 5: this.#write("p", Buffer.from(`md5${md5(md5(password, user), rest)}\0`)); break
            case 10: {
                this.#scram = { nonce: randomBytes(18).toString("base64") }
                const first = Buffer.from(`n,,n=,r=${this.#scram.nonce}`)
                this.#write("p", Buffer.concat([ Buffer.from("SCRAM-SHA-256\0"), int32(first.length), first ]))
                break
            }
            case 11: this.#write("p", Buffer.from(this.#scramProof(password, rest.toString()))); break
            case 12:
                if (rest.toString() !== `v=${this.#scram.signature}`)
                    throw new Error("the server does not know the password")
                break
            default: throw new Error(`authentication method ${method} is not supported`)
        }
    }

    // RFC 5802 with the hash of RFC 7677
    #scramProof (password, challenge) {
        const { r: nonce, s: salt, i: rounds } = Object.fromEntries(challenge.split(",").map((part) => [ part[0], part.slice(2) ]))
        const hmac = (key, text) => createHmac("sha256", key).update(text).digest()
        const salted = pbkdf2Sync(password, Buffer.from(salt, "base64"), Number(rounds), 32, "sha256")
        const clientKey = hmac(salted, "Client Key")
        const bare = `c=biws,r=${nonce}`
        const text = `n=,r=${this.#scram.nonce},${challenge},${bare}`
        const mask = hmac(createHash("sha256").update(clientKey).digest(), text)
        this.#scram.signature = hmac(hmac(salted, "Server Key"), text).toString("base64")
        return `${bare},p=${Buffer.from(clientKey.map((byte, at) => byte ^ mask[at])).toString("base64")}`
    }
}

function int32 (number) {
    const buffer = Buffer.alloc(4)
    buffer.writeInt32BE(number)
    return buffer
}

function row (body) {
    const values = []
    let at = 2
    for (let left = body.readInt16BE(0); left > 0; left--) {
        const length = body.readInt32BE(at)
        at += 4
        values.push(length < 0 ? null : body.toString("utf8", at, at + length))
        at += Math.max(length, 0)
    }
    return values
}
