// What a client of the torture does with the register while it holds, and what it must find there.
import { connect } from "node:net"
import { createInterface } from "node:readline"

/** The connection of one thread to the register. */
export class Register {
    #socket
    #waiting = new Map()
    #number = 0

    constructor (path) {
        this.#socket = connect(path)
        // Whoever waits for an answer that cannot come any more is in a torture that is over.
        this.#socket.on("error", () => {})
        createInterface({ input: this.#socket }).on("line", (line) => {
            const { number, ...answer } = JSON.parse(line)
            this.#waiting.get(number)(answer)
            this.#waiting.delete(number)
        })
    }

    /** Reads; writes if there is a `value`. @returns {Promise<{ value?: number, refused?: true }>} */
    access (id, owner, token, value) {
        const number = this.#number++
        return new Promise((resolve) => {
            this.#waiting.set(number, resolve)
            this.#socket.write(`${JSON.stringify({ number, id, owner, token: String(token), value })}\n`)
        })
    }

    close () {
        this.#socket.end()
    }
}

/** One hold's use of the register: an exclusive holder counts one up, and nobody may disturb what it sees. */
export class Use {
    /** What the register did that it must not do to somebody who holds. */
    faults = []
    #register
    #hold
    #value

    /** @param {{ id: string, owner: string, token: bigint, shared: boolean, held: () => boolean }} hold */
    constructor (register, hold) {
        this.#register = register
        this.#hold = hold
    }

    async begin () {
        this.#value = await this.#access()
        if (!this.#hold.shared && this.#value !== undefined)
            this.#value = await this.#access(this.#value + 1)
    }

    async end () {
        const value = await this.#access()
        if (value !== undefined && this.#value !== undefined && value !== this.#value)
            this.faults.push(`the register has ${value} and not ${this.#value} while the lock is held`)
    }

    /** A write that comes after the hold has ended, as that of a process which stood still. Its answer says whether the register took it. */
    async late () {
        const { id, owner, token } = this.#hold
        return (await this.#register.access(id, owner, token, this.#value + 1)).refused !== true
    }

    /** @returns {Promise<number | undefined>} nothing if the hold was over before the answer was looked at */
    async #access (value) {
        const { id, owner, token, held } = this.#hold
        const answer = await this.#register.access(id, owner, token, value)
        if (!held())
            return undefined
        if (answer.refused)
            this.faults.push(`the register refuses token ${token} while the lock is held`)
        return answer.value
    }
}

/** @param {unknown[][]} accesses the register's log @returns {{ violations: string[], counts: { reads: number, writes: number } }} */
export function judgeRegister (accesses) {
    const violations = []
    const counts = { reads: 0, writes: 0 }
    const owners = new Map(), values = new Map()
    for (const [ id, owner, token, before, written ] of accesses) {
        const key = `${id} ${token}`
        if (owners.has(key) && owners.get(key) !== owner)
            violations.push(`lock "${id}": ${owner} came to the register with token ${token}, which ${owners.get(key)} has`)
        owners.set(key, owner)
        if (before !== (values.get(id) ?? 0))
            violations.push(`lock "${id}": the register had ${before} after ${values.get(id)} was written`)
        if (written === null) {
            counts.reads++
            continue
        }
        counts.writes++
        if (written !== before + 1)
            violations.push(`lock "${id}": ${owner} (token ${token}) wrote ${written} over ${before}, so an update is lost`)
        values.set(id, written)
    }
    return { violations, counts }
}
