// Everything that a page can send without asking its user. Returns what it could read, or see that it is there.
async ({url, reads, writes, secrets}) => {
    const got = []
    const note = (what, text) => { if (text === true || secrets.some(secret => text.includes(secret))) got.push(what) }
    const within = promise => Promise.race([promise, new Promise(done => setTimeout(done, 1500))])
    const added = element => {
        document.body.append(element)
        return element
    }
    const asked = async (what, path, options) => {
        try {
            const answer = await fetch(url + path, {cache: "no-store", ...options})
            note(what, answer.ok || await answer.text())
        } catch { }
    }
    const events = (what, target) => within(new Promise(done => {
        target.addEventListener("error", done)
        for (const name of ["load", "open", "loadeddata"]) {
            target.addEventListener(name, () => { note(what, true); done() })
        }
    }))
    const tagged = (tag, attributes) => events(tag, added(Object.assign(document.createElement(tag), attributes)))
    const framed = (what, frame) => within(new Promise(done => {
        frame.addEventListener("error", done)
        frame.addEventListener("load", () => {
            try {
                note(what, frame.contentDocument.body.innerText)
            } catch { }
            done()
        })
    }))
    let frames = 0
    const submitted = (method, path, enctype, body) => {
        const frame = added(Object.assign(document.createElement("iframe"), {name: `frame${frames++}`}))
        const form = added(Object.assign(document.createElement("form"), {action: url + path, method, enctype, target: frame.name}))
        const [name, value] = body.split("=")
        form.append(Object.assign(document.createElement("input"), {name, value}))
        form.submit()
        return framed(`form ${path}`, frame)
    }
    const requested = path => within(new Promise(done => {
        const request = new XMLHttpRequest()
        request.onloadend = () => { note(`XHR ${path}`, request.status == 200 || request.responseText); done() }
        request.open("GET", url + path)
        request.send()
    }))
    const plain = {"Content-Type": "text/plain"}
    const json = {"Content-Type": "application/json"}
    const waiting = []
    for (const path of reads) {
        waiting.push(asked(`fetch ${path}`, path), asked(`no-cors ${path}`, path, {mode: "no-cors"}), requested(path))
        waiting.push(asked(`include ${path}`, path, {credentials: "include"}), asked(`token ${path}`, path, {headers: {Authorization: "x"}}))
        for (const [tag, name] of [["img", "src"], ["script", "src"], ["video", "src"], ["embed", "src"], ["object", "data"]]) {
            const what = added(document.createElement(tag))
            // A frame's load says nothing: an error page loads as well.
            waiting.push(["embed", "object"].includes(tag) ? framed(`${tag} ${path}`, what) : events(`${tag} ${path}`, what))
            what[name] = url + path
        }
        waiting.push(tagged("link", {rel: "stylesheet", href: url + path}))
        const frame = added(document.createElement("iframe"))
        waiting.push(framed(`iframe ${path}`, frame))
        frame.src = url + path
        added(Object.assign(document.createElement("link"), {rel: "prefetch", href: url + path}))
        waiting.push(events(`WebSocket ${path}`, new WebSocket(url.replace("http", "ws") + path)))
        const source = new EventSource(url + path)
        waiting.push(events(`EventSource ${path}`, source).then(() => source.close()))
        waiting.push(submitted("get", path.split("?")[0], "", "filter=length(repeat(id,99999999))>5"))
    }
    for (const [path, body] of writes) {
        const data = new FormData()
        data.append("body", new Blob([body]), "body.json")
        for (const mode of ["no-cors", "cors"]) {
            waiting.push(asked(`text ${path}`, path, {method: "POST", mode, headers: plain, body}))
            waiting.push(asked(`form ${path}`, path, {method: "POST", mode, body: new URLSearchParams([body.split("=")])}))
            waiting.push(asked(`data ${path}`, path, {method: "POST", mode, body: data}))
            waiting.push(asked(`untyped ${path}`, path, {method: "POST", mode, body: new Blob([body])}))
            waiting.push(asked(`kept ${path}`, path, {method: "POST", mode, keepalive: true, body}))
        }
        navigator.sendBeacon(url + path, body)
        for (const method of ["POST", "PUT", "PATCH", "DELETE"]) {
            waiting.push(asked(`${method} ${path}`, path, {method, headers: json, body}))
        }
        for (const enctype of ["text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]) {
            waiting.push(submitted("post", path, enctype, body))
        }
        // A frame without an origin sends "Origin: null".
        const send = `fetch(${JSON.stringify(url + path)}, {method: "POST", mode: "no-cors", body: ${JSON.stringify(body)}})`
        const frame = document.createElement("iframe")
        frame.sandbox = "allow-scripts"
        frame.srcdoc = `<script>${send}</script>`
        added(frame)
    }
    await Promise.all(waiting)
    await new Promise(done => setTimeout(done, 200))
    return got
}
