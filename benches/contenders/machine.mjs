// Locks between unrelated processes of one machine.
import { spawn } from "node:child_process"
import { once } from "node:events"
import { writeFileSync } from "node:fs"
import { createRequire } from "node:module"
import { connect, createServer } from "node:net"
import { join } from "node:path"

const require = createRequire(import.meta.url)

/** The lock of one process: what a lock in memory costs without a system call. */
export function mpm () {
    const Mutex = require("../../index.js")
    const open = []
    return {
        async lock (id) {
            const mutex = new Mutex(`mpm:${id}`)
            await mutex.open()
            open.push(mutex)
            return mutex
        },
        close: () => Promise.all(open.map((mutex) => mutex.close()))
    }
}

/** Two processes throw a token to each other through a socket of the file system. */
export function tokenBySocket ({ folder }) {
    const tokens = new Map(), closing = []
    return {
        prime: (id) => tokens.get(id).come(),
        async lock (id) {
            const path = join(folder, id)
            const token = new Token()
            tokens.set(id, token)
            const socket = connect(path)
            try {
                await once(socket, "connect")
                token.by(socket)
                closing.push(() => socket.destroy())
            }
            catch {
                const server = createServer((other) => {
                    token.by(other)
                    closing.push(() => other.destroy())
                })
                server.listen(path)
                await once(server, "listening")
                closing.push(() => server.close())
            }
            return token
        },
        close () {
            for (const close of closing)
                close()
        }
    }
}

class Token {
    #isMine = false
    #socket
    #come

    by (socket) {
        this.#socket = socket
        socket.on("data", () => this.come())
        socket.on("error", () => {})
    }

    come () {
        this.#isMine = true
        this.#come?.()
    }

    async acquire () {
        if (!this.#isMine)
            await new Promise((resolve) => { this.#come = resolve })
        this.#come = undefined
    }

    release () {
        this.#isMine = false
        this.#socket?.write("t")
    }
}

const fileOf = (folder, id) => {
    const file = join(folder, id)
    writeFileSync(file, "", { flag: "a" })
    return file
}

/** As often as it can: what it waits is what others pay for a quick hand-over. */
export function properLockfile ({ folder }) {
    const lockfile = require("proper-lockfile")
    return { lock (id) {
        const file = fileOf(folder, id)
        let release
        return {
            acquire: async () => { release = await lockfile.lock(file, { retries: { forever: true, minTimeout: 1, maxTimeout: 1 } }) },
            release: () => release()
        }
    } }
}

export function lockfile ({ folder }) {
    const { lock, unlock } = require("lockfile")
    const promised = (call) => new Promise((resolve, reject) => call((error) => error ? reject(error) : resolve()))
    return { lock (id) {
        const file = `${fileOf(folder, id)}.lock`
        return {
            acquire: () => promised((done) => lock(file, { wait: 60_000, pollPeriod: 1 }, done)),
            release: () => promised((done) => unlock(file, done))
        }
    } }
}

/** flock(1) holds the lock for as long as its command runs. */
export function flock ({ folder }) {
    return { lock (id) {
        const file = fileOf(folder, id)
        let child
        return {
            acquire: async () => {
                child = spawn("flock", [ file, "sh", "-c", "echo; read line" ], { stdio: [ "pipe", "pipe", "ignore" ] })
                await once(child.stdout, "data")
            },
            release: async () => {
                const ended = once(child, "exit")
                child.stdin.end()
                await ended
            }
        }
    } }
}
