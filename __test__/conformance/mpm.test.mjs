import { watchLeaks } from "../support/leaks.mjs"
import { conformance } from "./suite.mjs"

watchLeaks()
conformance({ name: "mpm", model: "mpm", url: (id) => `mpm:${id}` })
