// Locks on PostgreSQL: the floor by the bare protocol, and the package that people use.
import { connect } from "node:net"
import { once } from "node:events"
import { createRequire } from "node:module"

const require = createRequire(import.meta.url)
const INT8 = 20

const message = (type, ...parts) => {
    const body = Buffer.concat(parts.map((part) => typeof part === "string" ? Buffer.from(`${part}\0`) : part))
    const head = Buffer.alloc(type.length + 4)
    head.write(type)
    head.writeInt32BE(body.length + 4, type.length)
    return Buffer.concat([ head, body ])
}
const int16 = (...numbers) => Buffer.from(numbers.flatMap((number) => [ number >> 8, number & 255 ]))
const int32 = (number) => {
    const bytes = Buffer.alloc(4)
    bytes.writeInt32BE(number)
    return bytes
}

/** One connection without a password: prepared statements, as many on the way as the caller likes. */
class Connection {
    #socket
    #waiting = []
    #input = Buffer.alloc(0)

    async open ({ host, port, user, database = "template1" }) {
        this.#socket = connect({ host, port, noDelay: true })
        this.#socket.on("data", (data) => this.#read(data))
        await once(this.#socket, "connect")
        await this.#send(message("", int32(196608), "user", user, "database", database, Buffer.alloc(1)))
        return this
    }

    /** A statement with one bigint for its parameter; gives a function that runs it. */
    async prepare (name, sql) {
        await this.#send(message("P", name, sql, int16(1), int32(INT8)), message("S"))
        return (number) => this.#send(bound(name, number))
    }

    /** Bytes of a statement with its parameter are the same each time. */
    run (bytes) {
        return this.#send(bytes)
    }

    #send (...messages) {
        return new Promise((resolve) => {
            this.#waiting.push(resolve)
            this.#socket.write(messages.length === 1 ? messages[0] : Buffer.concat(messages))
        })
    }

    #read (data) {
        this.#input = this.#input.length > 0 ? Buffer.concat([ this.#input, data ]) : data
        let at = 0
        while (this.#input.length - at >= 5) {
            const end = at + 1 + this.#input.readInt32BE(at + 1)
            if (end > this.#input.length)
                break
            const type = this.#input[at]
            if (type === 0x45 /* E */)
                throw new Error(this.#input.toString("latin1", at + 5, end))
            if (type === 0x5a /* Z */)
                this.#waiting.shift()()
            at = end
        }
        this.#input = this.#input.subarray(at)
    }

    close () {
        this.#socket.end(message("X"))
    }
}

function bound (name, number) {
    const value = Buffer.alloc(8)
    value.writeBigInt64BE(BigInt(number))
    const bind = message("B", "", name, int16(1, 1, 1), int32(8), value, int16(0))
    return Buffer.concat([ bind, message("E", "", int32(0)), message("S") ])
}

function numberOf (id) {
    let number = 0
    for (const letter of id)
        number = (number * 31 + letter.charCodeAt(0)) % 1e9
    return number
}

/** Advisory locks of one connection by two prepared statements. */
export async function floor (target) {
    const connection = await new Connection().open(target)
    await connection.prepare("l", "SELECT pg_advisory_lock($1)")
    await connection.prepare("u", "SELECT pg_advisory_unlock($1)")
    return {
        lock (id) {
            const take = bound("l", numberOf(id)), free = bound("u", numberOf(id))
            return { acquire: () => connection.run(take), release: () => connection.run(free) }
        },
        close: () => connection.close()
    }
}

/** advisory-lock: a connection for each lock call. */
export async function advisoryLock ({ host, port, user }) {
    const { default: make } = require("advisory-lock")
    const createMutex = make(`postgres://${user}@${host}:${port}/template1`)
    return {
        lock (id) {
            const mutex = createMutex(id)
            let unlock
            return { acquire: async () => { unlock = await mutex.lock() }, release: () => unlock() }
        }
    }
}
