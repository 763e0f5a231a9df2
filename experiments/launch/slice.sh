# The machine of tpu_vm.sh, which reads this: asking for it, its states, and commands on it. What is asked for is in
# $name, $type, $runtime, $zone, $project, $spot, $duration and $patience ($limit in seconds); $dry_run prints commands.
# shellcheck shell=bash

place=()
[[ -z $zone ]] || place+=("--zone=$zone")
[[ -z $project ]] || place+=("--project=$project")
deletion=(gcloud compute tpus queued-resources delete "$name" --force --quiet "${place[@]}")

quoted() {
  local word line=''
  for word; do
    [[ $word =~ ^[A-Za-z0-9_./:=@%+,-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="$word "
  done
  echo "${line% }"
}
exec 3>&1
act() { if $dry_run; then quoted "$@" >&3; else "$@"; fi; }
ask() { # ask ANSWER COMMAND …: a dry run prints the command and takes the answer
  if $dry_run; then
    quoted "${@:2}" >&3
    echo "$1"
  else
    "${@:2}"
  fi
}
ssh_to() { # ssh_to WORKERS COMMAND, as the words of a command
  words=(gcloud compute tpus tpu-vm ssh "$name" "${place[@]}" --worker="$1" --quiet
    --ssh-flag=-oServerAliveInterval=30 --ssh-flag=-oServerAliveCountMax=4 --command="$2")
}
on() { # on WORKERS VERB …: of worker.sh
  ssh_to "$1" "bash jaxdl-run/code/experiments/launch/worker.sh $(printf '%q ' "${@:2}")"
  act "${words[@]}"
}

status_of_run() {
  ssh_to 0 'bash jaxdl-run/code/experiments/launch/worker.sh status'
  ask "$1" "${words[@]}" 2>/dev/null || true
}
state_of_request() { # empty where there is none
  local try
  for try in 1 2 3 4 5; do
    ask "$1" gcloud compute tpus queued-resources list --filter="name~\"(^|/)$name\$\"" --format='value(state.state)' \
      "${place[@]}" && return
    note "gcloud gave no list of requests (try $try of 5)"
    sleep "$poll"
  done
  return 1
}
state_of_machine() {
  ask READY gcloud compute tpus tpu-vm describe "$name" --format='value(state)' "${place[@]}" 2>/dev/null || true
}

requested=false
request() {
  local track=() kind=()
  ! $spot || kind=(--spot)
  if [[ -n $duration ]]; then
    track=(alpha) # no other has these
    kind=(--provisioning-model=flex-start "--max-run-duration=$duration")
  fi
  requested=true
  act gcloud "${track[@]}" compute tpus queued-resources create "$name" --node-id="$name" \
    --accelerator-type="$type" --runtime-version="$runtime" --valid-until-duration="$patience" "${kind[@]}" --quiet \
    "${place[@]}"
}

check_type() { # of a machine that was there before
  local found
  found=$(gcloud compute tpus tpu-vm describe "$name" --format='value(acceleratorType)' "${place[@]}")
  [[ $found == "$type" ]] || refuse "--name $name is there, with the accelerator type $found; give another --name"
}

acquire() { # the machine that is there, or a new one
  local state seen=none since=$SECONDS
  while :; do
    state=$(state_of_request "$(! $requested || echo ACTIVE)")
    [[ $state == "$seen" ]] || note "$name: ${state:-not there}"
    seen=$state
    if [[ $state == ACTIVE ]]; then
      case $(state_of_machine) in
        READY)
          $requested || check_type
          requested=true && return
          ;;
        PREEMPTED | TERMINATED) state=SUSPENDED ;;
      esac
    fi
    if [[ $state == FAILED ]] && $requested; then
      gcloud compute tpus queued-resources describe "$name" --format='yaml(state)' "${place[@]}" >&2 || true
      fail 3 "Google gave no machine (--wait $patience); its reason stands above"
    fi
    case $state in
      SUSPENDED | FAILED) act "${deletion[@]}" && request ;;
      '') request ;;
    esac
    ((SECONDS - since < limit)) || fail 3 "no machine in $patience (--wait)"
    $dry_run || sleep "$poll"
  done
}
