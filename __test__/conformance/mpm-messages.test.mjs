// mpm where no memory is lent, as on systems other than Linux.
import { watchLeaks } from "../support/leaks.mjs"

// Before the addon is loaded.
process.env.IPC_MUTEX_LENDING = "off"
const { conformance } = await import("./suite.mjs")

watchLeaks()
conformance({ name: "mpm by messages", model: "mpm", url: (id) => `mpm:${id}` })
