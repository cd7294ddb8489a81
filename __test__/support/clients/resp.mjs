// A plain Redis client for the tests' own views of a server: RESP2, replies in the order of the commands.
import { connect } from "node:net"

/** Connects to `{ path }` or `{ host, port }`, on the first command and again after a cut. */
export class RespClient {
    #target
    #login
    #socket
    #waiting = []
    #input = Buffer.alloc(0)

    /** @param {object} target for net.connect @param {string[]} [login] what follows AUTH */
    constructor (target, login) {
        this.#target = target
        this.#login = login
    }

    /**
     * Sends one command and resolves with its reply: text, number, null or an array of them.
     * An error reply rejects with its text as the message.
     */
    async command (...words) {
        if (this.#socket === undefined) {
            this.#open()
            if (this.#login)
                this.#send([ "AUTH", ...this.#login ]).catch(() => {}) // then the command itself says NOAUTH
        }
        return this.#send(words)
    }

    disconnect () {
        this.#socket?.destroy()
        this.#fail(new Error("disconnected"))
    }

    #open () {
        const socket = connect(this.#target)
        this.#socket = socket
        this.#input = Buffer.alloc(0)
        const failed = (error) => socket === this.#socket && this.#fail(error)
        socket.on("error", failed)
        socket.on("close", () => failed(new Error("connection closed")))
        socket.on("data", (data) => {
            this.#input = this.#input.length > 0 ? Buffer.concat([ this.#input, data ]) : data
            this.#read()
        })
    }

    #send (words) {
        const parts = words.map((word) => String(word))
        return new Promise((resolve, reject) => {
            this.#waiting.push({ resolve, reject })
            this.#socket.ref()
            this.#socket.write(`*${parts.length}\r\n${parts.map((part) => `$${Buffer.byteLength(part)}\r\n${part}\r\n`).join("")}`)
        })
    }

    #read () {
        for (;;) {
            const reply = parse(this.#input, 0)
            if (reply === undefined)
                return
            this.#input = this.#input.subarray(reply.end)
            const waiting = this.#waiting.shift()
            if (this.#waiting.length === 0)
                this.#socket.unref()
            if (reply.value instanceof Error)
                waiting?.reject(reply.value)
            else
                waiting?.resolve(reply.value)
        }
    }

    #fail (error) {
        this.#socket = undefined
        for (const { reject } of this.#waiting.splice(0))
            reject(error)
    }
}

function parse (buffer, start) {
    const eol = buffer.indexOf("\r\n", start)
    if (eol < 0)
        return undefined
    const line = buffer.toString("utf8", start + 1, eol)
    const after = eol + 2
    switch (String.fromCharCode(buffer[start])) {
        case "+": return { value: line, end: after }
        case "-": return { value: new Error(line), end: after }
        case ":": return { value: Number(line), end: after }
        case "$": {
            const length = Number(line)
            if (length < 0)
                return { value: null, end: after }
            if (buffer.length < after + length + 2)
                return undefined
            return { value: buffer.toString("utf8", after, after + length), end: after + length + 2 }
        }
        case "*": {
            if (Number(line) < 0)
                return { value: null, end: after }
            const value = []
            let end = after
            for (let left = Number(line); left > 0; left--) {
                const item = parse(buffer, end)
                if (item === undefined)
                    return undefined
                value.push(item.value)
                end = item.end
            }
            return { value, end }
        }
        default: throw new Error(`not a RESP reply: ${line}`)
    }
}
