// A process that takes and releases a lock as it is told. Arguments: url, and maybe a user, a group and the groups besides that it becomes.
import Mutex from "../../index.js"

const [ , , url, user, group, ...groups ] = process.argv
if (user !== undefined) {
    process.umask(0o077)
    process.setgroups(groups.map(Number))
    process.setgid(Number(group))
    process.setuid(Number(user))
}
const mutex = new Mutex(url, { label: "member" })
let lock
const methods = {
    open: () => mutex.open(),
    lock: async (options) => { lock = await mutex.lock(options) },
    tryLock: async () => {
        lock = await mutex.tryLock()
        return lock !== null
    },
    release: () => lock.release()
}

process.on("message", async ([ method, options ]) => {
    try {
        process.send({ name: method, result: await methods[method](options) })
    }
    catch ({ code, message }) {
        process.send({ name: method, code, message })
    }
})
process.on("disconnect", () => process.exit())
