// Compiled, never run: the typings of ipc-mutex/proper-lockfile, as CommonJS sees them.
import lockfile = require("ipc-mutex/proper-lockfile")

async function main () {
    const release: () => Promise<void> = await lockfile("a")
    await release()
    const options: lockfile.LockOptions = { retries: [ 10, 20 ] }
    const again: () => void = lockfile.lockSync("a", options)
    again()
    const is: boolean = await lockfile.check("a")
    return is
}
void main
