// A ledger of account balances in a file, and transfers that read, compute and write: correct only one at a time.
import { open } from "node:fs/promises"

export const ACCOUNTS = 8
export const OPENING_BALANCE = 1_000n
export const TOTAL = BigInt(ACCOUNTS) * OPENING_BALANCE

/** Makes the file: every account with its opening balance, eight bytes each. */
export async function create (path) {
    const file = await open(path, "w")
    await file.write(BigInt64Array.from({ length: ACCOUNTS }, () => OPENING_BALANCE))
    await file.close()
}

/** The sum over all accounts, which no transfer changes. */
export async function total (path) {
    const file = await open(path, "r")
    const balances = new BigInt64Array(ACCOUNTS)
    await file.read(balances, 0, balances.byteLength, 0)
    await file.close()
    return balances.reduce((sum, balance) => sum + balance, 0n)
}

async function read (file, account) {
    const cell = new BigInt64Array(1)
    await file.read(cell, 0, 8, account * 8)
    return cell[0]
}

async function write (file, account, balance) {
    await file.write(BigInt64Array.of(balance), 0, 8, account * 8)
}

/** Moves one unit between two accounts. */
export async function transfer (file, from, to) {
    const debit = await read(file, from), credit = await read(file, to)
    await write(file, from, debit - 1n)
    await write(file, to, credit + 1n)
}

/**
 * One teller's work: many transfers, each under the mutex if there is one.
 * @returns {Promise<Array<[ bigint, bigint ]>>} from when until when the teller was at the ledger, each time
 */
export async function work (path, teller, transfers, mutex) {
    const file = await open(path, "r+")
    const visits = []
    for (let count = 0; count < transfers; count++) {
        const from = (teller + count) % ACCOUNTS, to = (from + 1 + count % (ACCOUNTS - 1)) % ACCOUNTS
        await mutex?.acquire()
        const begun = process.hrtime.bigint()
        await transfer(file, from, to)
        visits.push([ begun, process.hrtime.bigint() ])
        await mutex?.release()
    }
    await file.close()
    return visits
}
