import { watchLeaks } from "../support/leaks.mjs"
import { suite } from "./suite.mjs"

watchLeaks()
suite({ name: "mpm", url: (id) => `mpm:${id}` })
