#!/usr/bin/env bash
# What tpu_vm.sh and sky.yaml do on each machine. All is in ~/jaxdl-run: the code, its environment, the inputs, and
# work/, the folder in which the command runs. What it writes there is its results and, until it has ended, its state.
# A BUCKET is gs://B/FOLDER, a folder where a bucket is mounted, or '' for none: then the state stays on the machine.
# WORKERS are the addresses of all, 10.0.0.2,10.0.0.3, or '' of one alone.
#
#   worker.sh install EXTRA [gs://INPUT …]          jaxdl with that extra, and inputs from buckets
#   worker.sh run WORKERS BUCKET EVERY COMMAND …    runs it; its state goes to the bucket every so many seconds
#   worker.sh start WORKERS BUCKET EVERY COMMAND …  the same, going on when the connection ends
#   worker.sh follow LINE                           its output from that line on, until it ends
#   worker.sh status                                none, running, "ended CODE", or lost where it was killed
#   worker.sh stop SECONDS                          asks it to save and end, and ends it after so many
#   worker.sh pack                                  results.tar.gz
set -euo pipefail

self=$(realpath "$0")
cd ~/jaxdl-run

install() {
  export PATH="$HOME/.local/bin:$PATH"
  # the image has Python 3.10 and jaxdl needs 3.11: uv brings one
  command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh
  uv venv --quiet --allow-existing --python 3.12 env
  uv pip install --quiet --python env/bin/python --reinstall-package jaxdl "./code[$1]"
  mkdir -p inputs work
  local input
  for input in "${@:2}"; do
    mkdir -p "inputs/${input##*/}"
    take "$input" "inputs/${input##*/}"
  done
  for input in inputs/*; do # as links: they are no results
    [[ ! -e $input ]] || ln -sfn "$PWD/$input" "work/${input##*/}"
  done
}

is_running() { [[ -e pid ]] && grep -qs worker.sh "/proc/$(<pid)/cmdline"; }

status() {
  if is_running; then
    echo running
  elif [[ -e ended ]]; then
    echo "ended $(<ended)"
  elif [[ -e pid ]]; then
    echo lost
  else
    echo none
  fi
}

start() {
  local asked
  asked=$(printf '%q ' "$@")
  if is_running; then
    [[ $asked == "$(<asked)" ]] && return
    echo "another command is running here: $(<asked)" >&2
    exit 4
  fi
  rm -f ended
  echo "$asked" >asked
  setsid bash "$self" run "$@" >log 2>&1 </dev/null &
  echo $! >pid
}

run() {
  local workers=$1 bucket=$2 every=$3 code=0 number saved=$SECONDS
  shift 3
  mkdir -p work
  number=${SKYPILOT_NODE_RANK:-$(curl -sf -H 'Metadata-Flavor: Google' \
    http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number || echo 0)}
  if [[ -n $workers ]] && ! share "$workers" "$number"; then
    echo "worker.sh: the folder of the first worker cannot be shared with the others"
    code=74
  elif ((number == 0)) && ! restore "$bucket"; then
    echo "worker.sh: the state cannot be read from or written to $bucket; may this machine write there?"
    code=74
  fi
  if ((code)); then
    echo "$code" >ended
    exit "$code"
  fi
  export PATH="$HOME/jaxdl-run/env/bin:$PATH"
  (cd work && exec "$@") &
  local child=$!
  # a machine that is taken away says so half a minute before: the command saves its state and ends
  trap 'kill -TERM "$child" 2>/dev/null || true' TERM
  while kill -0 "$child" 2>/dev/null; do
    sleep 0.2
    if ((number == 0 && SECONDS - saved >= every)); then
      save "$bucket" || echo "worker.sh: the state could not be written to $bucket; the next try is in $every seconds"
      saved=$SECONDS
    fi
  done
  wait "$child" || code=$?
  # results stand in the folder itself; what was told to end (143) or lost other workers (75) has none yet
  if ((number == 0)) && ! { save "$bucket" && { ((code == 143 || code == 75)) || publish "$bucket"; }; }; then
    echo "worker.sh: the results could not be written to $bucket"
    code=74
  fi
  echo "$code" >ended
  exit "$code"
}

# Several processes of jaxdl write one folder: work/ of the first worker becomes that of all.
share() {
  local address tries=300 us
  if (($2 == 0)); then
    package nfs-kernel-server
    us=all_squash,anonuid=$(id -u),anongid=$(id -g)
    for address in ${1//,/ }; do
      sudo exportfs -o "rw,insecure,no_subtree_check,$us" "$address:$PWD/work" || return 1
    done
  elif ! mountpoint -q work; then
    package nfs-common
    # what one writes the others see at once
    until sudo mount -t nfs -o actimeo=0,lookupcache=none "${1%%,*}:$PWD/work" work; do
      ((tries-- > 0)) || return 1
      sleep 1
    done
  fi
}
package() {
  dpkg -s "$1" >/dev/null 2>&1 || sudo apt-get install -qq -y -o DPkg::Lock::Timeout=300 "$1" >/dev/null ||
    { sudo apt-get update -qq && sudo apt-get install -qq -y -o DPkg::Lock::Timeout=300 "$1" >/dev/null; }
}

# The state is kept twice, in a/ and b/, and "current" says which is whole: a machine may vanish while it writes. What
# is copied are links to the files of one moment: jaxdl writes new ones and renames them, or appends.
save() {
  local slot=a
  [[ -n $1 ]] || return 0
  [[ $(cat slot 2>/dev/null) != a ]] || slot=b
  rm -rf snapshot
  cp -al work snapshot || return 1 # also where a file went while it was copied: the next try will do
  find snapshot -type l -delete
  [[ -n $(find snapshot -type f -print -quit) ]] || return 0
  mirror snapshot "$1-state/$slot" && echo "$slot" | write "$1-state/current" && echo "$slot" >slot
}

publish() { # what was saved last
  [[ -n $1 && -n $(find snapshot -type f -print -quit) ]] || return 0
  mirror snapshot "$1" && remove "$1-state"
}

# What an earlier machine kept; nothing where this one has begun itself.
restore() {
  local from=$1 slot there=0
  [[ -n $1 && $(cat restored 2>/dev/null) != "$1" ]] || return 0
  rm -f slot
  hostname | write "$1-state/writable-$(hostname)" || return 1
  is_there "$1-state/current" || there=$?
  if ((there == 0)); then
    slot=$(read_from "$1-state/current") || return 1
    from=$1-state/$slot
    echo "$slot" >slot
  elif ((there == 1)); then
    there=0
    is_there "$from" || there=$?
  fi
  case $there in
    0) take "$from" work || return 1 ;;
    1) ;;
    *) return 1 ;; # what is there is not known, and must not be written over
  esac
  echo "$1" >restored
}

mirror() { # FOLDER PLACE: the place holds what the folder does, and no more
  if [[ $2 == gs://* ]]; then
    gcloud storage rsync "$1" "$2" --recursive --delete-unmatched-destination-objects --quiet
  else
    rm -rf "$2" && mkdir -p "$(dirname "$2")" && cp -r "$1" "$2"
  fi
}
take() { # PLACE FOLDER
  if [[ $1 == gs://* ]]; then gcloud storage rsync "$1" "$2" --recursive --quiet; else cp -r "$1/." "$2"; fi
}
write() {
  if [[ $1 == gs://* ]]; then gcloud storage cp - "$1" --quiet; else mkdir -p "$(dirname "$1")" && cat >"$1"; fi
}
read_from() {
  if [[ $1 == gs://* ]]; then gcloud storage cat "$1"; else cat "$1"; fi
}
is_there() { # 1 where it is not, 2 where nobody knows
  local told
  if [[ $1 == gs://* ]]; then
    told=$(gcloud storage ls "$1" 2>&1) && return
    [[ $told == *'matched no objects'* ]] && return 1
    echo "$told"
    return 2
  fi
  [[ -e $1 ]]
}
remove() {
  if [[ $1 == gs://* ]]; then gcloud storage rm "$1" --recursive --quiet; else rm -rf "$1"; fi
}

follow() {
  until [[ -e log ]]; do sleep 0.2; done
  if is_running; then
    tail -n "+$1" -s 0.2 --pid="$(<pid)" -F log 2>/dev/null
  else
    tail -n "+$1" log
  fi
}

stop() {
  is_running || return 0
  kill -TERM "$(<pid)"
  local left=$(($1 * 5))
  while is_running && ((left-- > 0)); do sleep 0.2; done
  ! is_running || kill -KILL -- "-$(<pid)"
}

pack() {
  (cd work && find . -type f -print0 | tar --null --files-from - -czf ../results.tar.gz)
}

"$@"
