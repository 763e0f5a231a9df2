#!/usr/bin/env bash
# Runs an experiment on a Cloud TPU slice: asks for the machine, installs jaxdl, runs, fetches, deletes.
set -euo pipefail

usage() {
  cat <<'END'
usage: tpu_vm.sh --accelerator-type TYPE [OPTIONS] -- COMMAND …

Asks for a Cloud TPU slice, installs jaxdl on all its workers, runs COMMAND on them (jaxdl … --out NAME), shows the
output of the first one, fetches the results and deletes the machine: also after a failure or Ctrl-C. Needs gcloud,
logged in. COMMAND runs in a folder of its own on the machine, and what it writes there is its results.

  --accelerator-type TYPE   v5litepod-8 (which is v5e), v6e-8, v5p-8, v4-8, …
  --name NAME               of the machine; one that is there is used (default: jaxdl)
  --zone ZONE               (default: that which gcloud has)
  --project PROJECT         (default: that which gcloud has)
  --runtime-version V       image of the machine (default: that of the generation)
  --spot                    cheaper, and may be taken away at any time; needs --bucket
  --max-run-duration D      flex-start: Google deletes the machine after D (4h, up to 7d); needs --bucket
  --bucket gs://B/FOLDER    results go there, and the state every minute: where the machine is taken away, another one
                            goes on; the folder is for this run alone
  --results FOLDER          where results are fetched to (default: NAME-results; with --bucket they are not)
  --copy PATH               input for COMMAND, by its last name: a file, a folder, or gs://B/FOLDER; may be repeated
  --wait D                  how long to wait for a machine (default: 24h)
  --restarts N              how often to go on after the machine was taken away (default: 50)
  --save-every S            seconds between copies of the state to the bucket (default: 60)
  --keep                    do not delete the machine: it costs money until you do
  --dry-run                 print the commands of a run in which nothing goes wrong, and run none
  --help

Where a slice has several workers, jaxdl gets --multihost, and all work in one folder, which the first one shares.
The exit code is that of COMMAND; 2 for an argument that cannot be, 3 where there was no machine in time, 74 where the
bucket could not be read or written.

  tpu_vm.sh --accelerator-type v5litepod-8 --spot --bucket gs://mine/ants --copy photos -- \
    jaxdl cross-validate --data photos --init hf:timm/resnet50.a1_in1k --out run
END
}

refuse() {
  echo "tpu_vm.sh: $1" >&2
  exit 2
}
note() { echo "tpu_vm.sh: $1" >&2; }
fail() {
  note "$2"
  exit "$1"
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 404)) || refuse "needs bash 4.4 or newer, and this is $BASH_VERSION"
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
poll=${JAXDL_LAUNCH_POLL:-20} # seconds between two looks at the machine
patience_of_stop=${JAXDL_LAUNCH_STOP:-60} # seconds in which a command that is told to end saves its state

name=jaxdl type='' zone='' project='' runtime='' duration='' bucket='' results='' patience=24h restarts=50 every=60
spot=false keep=false dry_run=false copies=()
while (($#)) && [[ $1 != -- ]]; do
  option=${1%%=*}
  case $option in
    --help | -h) usage && exit ;;
    --spot) spot=true && shift && continue ;;
    --keep) keep=true && shift && continue ;;
    --dry-run) dry_run=true && shift && continue ;;
  esac
  [[ $option == --* ]] || refuse "'$1' stands before --; the command to run stands after it"
  [[ $(usage) == *$'\n'"  $option "* ]] || refuse "there is no option $option; see --help"
  if [[ $1 == *=* ]]; then
    value=${1#*=} && shift
  else
    (($# > 1)) && [[ $2 != --* ]] || refuse "$option needs a value"
    value=$2 && shift 2
  fi
  case $option in
    --accelerator-type) type=$value ;;
    --name) name=$value ;;
    --zone) zone=$value ;;
    --project) project=$value ;;
    --runtime-version) runtime=$value ;;
    --max-run-duration) duration=$value ;;
    --bucket) bucket=${value%/} ;;
    --results) results=$value ;;
    --copy) copies+=("${value%/}") ;;
    --wait) patience=$value ;;
    --restarts) restarts=$value ;;
    --save-every) every=$value ;;
  esac
done
[[ ${1:-} == -- ]] && shift
(($#)) || refuse "there is no command; it stands after --, such as: -- jaxdl demo"
command=("$@")

seconds() { # of 90s, 30m, 4h, 2d
  [[ $2 =~ ^([1-9][0-9]*)([smhd])$ ]] || refuse "$1 is '$2'; expected a duration such as 30m, 4h or 2d"
  local unit
  case ${BASH_REMATCH[2]} in s) unit=1 ;; m) unit=60 ;; h) unit=3600 ;; d) unit=86400 ;; esac
  limit=$((BASH_REMATCH[1] * unit))
}
[[ -z $duration ]] || seconds --max-run-duration "$duration"
seconds --wait "$patience"
[[ $restarts =~ ^[0-9]+$ ]] || refuse "--restarts is '$restarts'; expected a number"
[[ $every =~ ^[1-9][0-9]*$ ]] || refuse "--save-every is '$every'; expected seconds, at least 1"
[[ $name =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
  refuse "--name is '$name'; expected small letters, digits and hyphens, at most 63, with a letter first"
case $type in
  '') refuse "--accelerator-type is missing; expected one such as v5litepod-8, v6e-8, v5p-8" ;;
  v5e-*) refuse "--accelerator-type is '$type'; gcloud calls it v5litepod-${type#v5e-}" ;;
  v[234]-[0-9]*) : "${runtime:=tpu-ubuntu2204-base}" ;;
  v5litepod-[0-9]*) : "${runtime:=v2-alpha-tpuv5-lite}" ;;
  v5p-[0-9]*) : "${runtime:=v2-alpha-tpuv5}" ;;
  v6e-[0-9]*) : "${runtime:=v2-alpha-tpuv6e}" ;;
  *:*) refuse "--accelerator-type is '$type'; expected a generation and a number, such as v5litepod-8, v6e-8, v5p-8" ;;
  *) [[ -n $runtime ]] || refuse "the image of --accelerator-type '$type' is not known; give --runtime-version" ;;
esac
[[ -z $bucket || $bucket =~ ^gs://[^/]+/.+ ]] || refuse "--bucket is '$bucket'; expected gs://BUCKET/FOLDER"
if $spot && [[ -n $duration ]]; then
  refuse "--spot and --max-run-duration are two ways to ask for a machine; give one of them"
fi
if { $spot || [[ -n $duration ]]; } && [[ -z $bucket ]]; then
  refuse "--bucket is missing: a machine that is taken away takes its disk along, and the run would begin again"
fi
for copy in "${copies[@]}"; do
  [[ $copy == gs://* || -e $copy ]] || refuse "--copy is '$copy', and there is no such file or folder"
done
$dry_run || type -P gcloud >/dev/null || refuse "gcloud is not there; see https://cloud.google.com/sdk/docs/install"
[[ -n $bucket ]] || : "${results:=$name-results}"

# shellcheck source=experiments/launch/slice.sh
. "$repository/experiments/launch/slice.sh"
started=false outcome=''

install() {
  local inputs=() remote=() copy
  for copy in "${copies[@]}"; do
    if [[ $copy == gs://* ]]; then
      remote+=("$copy")
    else
      [[ -d $copy ]] && copy=$(cd "$copy" && pwd)
      inputs+=(-C "$(cd "$(dirname "$copy")" && pwd)" "${copy##*/}")
    fi
  done
  ((${#inputs[@]})) || inputs=(--files-from=/dev/null)
  ssh_to all "mkdir -p jaxdl-run/code jaxdl-run/inputs && tar -xzf jaxdl-code.tgz -C jaxdl-run/code && \
tar -xzf jaxdl-inputs.tgz -C jaxdl-run/inputs"
  act tar -czf "$scratch/jaxdl-code.tgz" --exclude=__pycache__ -C "$repository" \
    README.md LICENSE setup.cfg pyproject.toml jaxdl experiments &&
    act tar -czf "$scratch/jaxdl-inputs.tgz" --dereference "${inputs[@]}" &&
    act gcloud compute tpus tpu-vm scp "$scratch/jaxdl-code.tgz" "$scratch/jaxdl-inputs.tgz" "$name:" \
      --worker=all --quiet "${place[@]}" &&
    act "${words[@]}" &&
    on all install tpu "${remote[@]}"
}

end_rest() { # of an earlier attempt on the same machine, such as a worker that hangs
  ! $started || on all stop "$patience_of_stop" >/dev/null 2>&1 || true
}

attempt() { # runs the command on the machine; leaves its exit code in `outcome`, or nothing where the machine went
  local workers status silent=0 shown code=0 whole=("${command[@]}")
  workers=$(ask '' gcloud compute tpus tpu-vm describe "$name" --format='value(networkEndpoints[].ipAddress)' \
    "${place[@]}") || return 0
  workers=${workers//;/,}
  if [[ $workers != *,* ]]; then
    workers=''
  elif [[ ${whole[0]} == jaxdl && " ${whole[*]} " != *" --multihost "* ]]; then
    whole+=(--multihost)
  fi
  if [[ $(status_of_run none) == running ]] || { end_rest && install; }; then
    on all start "$workers" "$bucket" "$every" "${whole[@]}" || code=$?
  else
    code=1
  fi
  if ((code == 4)); then
    keep=true
    fail 1 "another command is running on $name, which is left alone; give another --name"
  elif ((code)); then
    [[ $(state_of_machine) != READY ]] || fail 1 "jaxdl could not be installed or started on $name: see above"
    return 0
  fi
  started=true
  : >"$scratch/log"
  while :; do
    on 0 follow $(($(wc -l <"$scratch/log") + 1)) 2>/dev/null | tee -a "$scratch/log" && shown=true || shown=false
    status=$(status_of_run 'ended 0')
    ! $shown && [[ $status == ended* ]] && ((++silent < 3)) && continue # the rest of the log is still to be shown
    case $status in
      # told to end, or killed: the machine is being taken away; 75: some other worker is lost
      'ended 143' | 'ended 75' | lost) return 0 ;;
      'ended 0') outcome=0 && return ;;
      ended\ *) # a failure because some workers have gone already is none of the command
        sleep "$poll"
        [[ $(state_of_request '') != ACTIVE || $(state_of_machine) != READY ]] || outcome=${status#ended }
        return 0
        ;;
      running) silent=0 ;; # only the connection broke
      *)
        [[ $(state_of_machine) == READY ]] || return 0
        ((++silent < 10)) || fail 3 "$name is there, but does not answer"
        ;;
    esac
    sleep "$poll"
  done
}

fetch() {
  local folder=${results:-$name-results}
  if [[ -n $bucket && $outcome != 74 ]]; then # 74: the bucket could not be written to
    [[ -n $results ]] || return 0
    act mkdir -p "$folder" && act gcloud storage rsync "$bucket" "$folder" --recursive
  else
    on 0 pack && act gcloud compute tpus tpu-vm scp "$name:jaxdl-run/results.tar.gz" "$scratch" --worker=0 --quiet \
      "${place[@]}" && act mkdir -p "$folder" && act tar -xzf "$scratch/results.tar.gz" -C "$folder"
  fi
}

clean_up() {
  local code=$? try state=ACTIVE
  trap - EXIT
  trap '' INT TERM HUP
  set +e
  if [[ -z $outcome ]] && $started && [[ $(state_of_machine) == READY ]]; then
    note "ending the command on $name"
    on all stop "$patience_of_stop"
    [[ -n $bucket ]] || fetch
    [[ -z $bucket ]] || note "the state is kept in $bucket-state: the same call of tpu_vm.sh goes on from there"
  elif [[ -n $outcome ]]; then
    for try in 1 2 3; do
      fetch && break
      ((try < 3)) && sleep "$poll" && continue
      note "the results could not be fetched"
      [[ -n $bucket && $outcome != 74 ]] || keep=true # they are on this machine alone
    done
  fi
  if $requested && $keep; then
    note "$name is kept and costs money; delete it by: $(quoted "${deletion[@]}")"
  elif $requested && { ! state=$(state_of_request ACTIVE) || [[ -n $state ]]; }; then
    act "${deletion[@]}" || note "$name is not deleted and costs money; delete it by: $(quoted "${deletion[@]}")"
  fi
  rm -rf "$scratch"
  exit "$code"
}

scratch=$(mktemp -d)
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
while :; do
  acquire
  attempt
  [[ -z $outcome ]] || exit "$outcome"
  ((restarts-- > 0)) || fail 3 "the machine was taken away more often than --restarts allows"
  note "the machine was taken away; $([[ -n $bucket ]] && echo going on || echo beginning again) on another one"
done
