# The functions of a page's script. tests/src/manual/script.rs writes the rest of it: for each step its preparations and
# `step NUMBER`. The commands of a step are in .steps/NUMBER.sh, and its output is in .steps/NUMBER.out and .err.
set -euo pipefail
steps=$PWD/.steps
mkdir bin
ln -s "$EVERGREEN" bin/evergreen
# The release build is the program of this test.
printf '#!/bin/sh\n[ "$*" = "build --release" ] || exit 64\n' > bin/cargo
chmod +x bin/cargo
mkdir -p target/release
ln -s "$EVERGREEN" target/release/evergreen
export PATH=$PWD/bin:$PATH
cp -r "$REPOSITORY/deploy" "$REPOSITORY/examples" .
rm -rf examples/express/node_modules
: > .steps/up.log
mkdir .steps/apps

# Waits until a URL answers.
wait_for() {
    local url=$1 _
    for _ in {1..300}; do
        ! curl -so /dev/null --max-time 5 "$url" || return 0
        sleep 0.1
    done
    echo "no answer from $url"
    cat "$steps/up.log"
    return 1
}

# `evergreen up` of a page that does not start it itself, with an endpoint for events, a customer and a key.
start_up() {
    EVERGREEN_EVENTS_URL=http://127.0.0.1:$PORT/evergreen EVERGREEN_EVENTS_ALLOW_PRIVATE=true \
        EVERGREEN_EVENTS_SECRET=whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY= \
        EVERGREEN_APPS_DIR=$steps/apps EVERGREEN_SANDBOX_APPS=second-a:secret-a \
        evergreen up > "$steps/up.log" 2>&1 &
    up=$!
    wait_for "http://127.0.0.1:$PUBLIC_PORT/health"
    connect tea-house
    make_key
}

# The key in the place of `evg_…`.
make_key() {
    MANUAL_KEY=$(evergreen keys create --name manual \
        --scope proxy --scope tokens --scope connect --scope admin --scope metrics 2> /dev/null)
}

# connect LOCATION [APP], or connect --company COMPANY: consents at the sandbox.
connect() {
    local field=locationId page answer
    [[ $1 != --company ]] || { field=companyId; shift; }
    page=$(curl -sS -c "$steps/jar" -o /dev/null -w '%{redirect_url}' \
        "http://127.0.0.1:$PUBLIC_PORT/oauth/install${2:+?app=$2}")
    answer=$(curl -sSL -b "$steps/jar" -d "$field=$1" "$page")
    note_installation <<< "$answer"
    [[ $answer == *'"status":"connected"'* ]] || { echo "$1 is not connected: $answer"; return 1; }
}

# second_app NAME: another app, with the same customer.
second_app() {
    local _
    printf 'client_id = "second-a"\nclient_secret = "secret-a"\n' > "$steps/apps/$1.toml"
    kill -HUP "$up"
    for _ in {1..100}; do
        ! evergreen apps list | grep -q "^$1 " || break
        sleep 0.1
    done
    connect tea-house "$1"
}

# tokens_of_another_backend FILE COUNT: rows of customers who consented to the app before evergreen was there.
tokens_of_another_backend() {
    python3 - "http://127.0.0.1:$SANDBOX_PORT" "$2" << 'END' > "$1"
import json
import sys
import urllib.parse
import urllib.request


class KeepRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_):
        return None


def post(url, **fields):
    body = urllib.parse.urlencode(fields).encode()
    try:
        return opener.open(urllib.request.Request(url, body))
    except urllib.error.HTTPError as answer:
        return answer


opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), KeepRedirects)
sandbox, count = sys.argv[1], int(sys.argv[2])
back = "http://127.0.0.1:9/oauth/callback"
client = {"client_id": "sandbox-client", "redirect_uri": back}
rows = []
for number in range(1, count + 1):
    query = urllib.parse.urlencode({**client, "response_type": "code", "scope": "contacts.readonly contacts.write"})
    answer = post(f"{sandbox}/v2/oauth/chooselocation?{query}", locationId=f"tea-room-{number}")
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["location"]).query)["code"][0]
    secret = {"client_secret": "sandbox-secret", "grant_type": "authorization_code", "code": code}
    token = json.load(post(f"{sandbox}/oauth/token", **client, **secret, user_type="Location"))
    names = ["access_token", "refresh_token", "expires_in", "locationId", "companyId", "userType"]
    rows.append({name: token[name] for name in names if name in token})
print(json.dumps(rows, indent=1))
END
}

# Takes what is sent to the endpoint for events.
receiver() {
    python3 - "$PORT" << 'END' > "$steps/receiver.log" 2>&1 &
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(204)
        self.end_headers()


HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
END
    wait_for "http://127.0.0.1:$PORT/"
}

# Remembers the last id of an installation in what it reads.
note_installation() {
    local seen
    seen=$(grep -o 'install_[0-9a-f]\{24\}' | tail -n 1) || true
    [[ -z $seen ]] || INSTALLATION=$seen
}

# The ids and keys of a page are examples: puts those of this run in their place.
fill_in() {
    sed -i -e "s/evg_…/${MANUAL_KEY-}/g" -e "s/install_…/${INSTALLATION-}/g" \
        -e "s/install_[0-9a-f]\{24\}/${INSTALLATION-}/g" -e "s/\bINSTALLATION\b/${INSTALLATION-}/g" \
        -e "s/\bENDPOINT\b/default/g" "$1"
}

# step NUMBER: runs it in this shell, so that its variables last. The first command that fails ends the page.
step() {
    begin "$1"
    . "$steps/$1.sh"
    end "$1"
}

# step_exits NUMBER CODE: a step whose last command ends with this code.
step_exits() {
    local code=0
    begin "$1"
    . "$steps/$1.sh" || code=$?
    [[ $code == "$2" ]] || { echo "the exit code is $code and not $2" >&2; exit 1; }
    end "$1"
}

# serve NUMBER URL: runs the last command of a step in the background.
serve() {
    fill_in "$steps/$1.serve.sh"
    . "$steps/$1.serve.sh" >> "$steps/up.log" 2>&1 &
    served=$!
    wait_for "$2"
    [[ -n ${MANUAL_KEY-} ]] || make_key
}

# Ctrl-C.
stop_up() {
    # The program is a child of the shell that reads the step.
    pkill -INT -P "$served" evergreen
    wait "$served" || true
}

begin() {
    fill_in "$steps/$1.sh"
    exec 8>&1 9>&2 > "$steps/$1.out" 2> "$steps/$1.err"
}

end() {
    exec >&8 2>&9 8>&- 9>&-
    note_installation < "$steps/$1.out"
    echo ended > "$steps/$1.ended"
}

# The product of examples/express finds the processes at this page's ports.
npm() {
    EVERGREEN_URL=$EVERGREEN_ADMIN_URL GATEWAY_URL=http://127.0.0.1:$PUBLIC_PORT command npm "$@"
}
