#!/usr/bin/env bash
# Asks a Goldsmith for a build, prints its log as it comes, and ends with the image, or with why there is none.
#
#   goldsmith-build.sh RECIPE|FILE.yaml
#   GOLDSMITH_REPOSITORY=https://… GOLDSMITH_PATH=FILE.yaml goldsmith-build.sh
#
# GOLDSMITH_URL         where the API is
# GOLDSMITH_API_KEY     an API key, or the job's own token for the API's audience
# GOLDSMITH_REPOSITORY  a Git repository that the service takes the recipe from; GOLDSMITH_PATH is its file there, and
#                       GOLDSMITH_REF a branch, a tag or a commit's whole id (HEAD if not set)
# GOLDSMITH_PARAMETERS  what the recipe leaves open: lines of NAME=VALUE
# GOLDSMITH_RUN         what makes this run itself, so that a second try does not build twice; by default the CI system's
# GOLDSMITH_OUTPUT      a file for `digest=` and `reference=`; GITHUB_OUTPUT gets them too
#
# It needs bash, curl and jq. It ends with 0 for a release, 2 for a build without one, 1 if it cannot tell, 64 if it was called wrongly.
set -euo pipefail

fail() { printf 'goldsmith: %s\n' "$2" >&2; exit "$1"; }

recipe=${1:-} repository=${GOLDSMITH_REPOSITORY:-} path=${GOLDSMITH_PATH:-} ref=${GOLDSMITH_REF:-}
[ $# -le 1 ] && [ -n "$recipe$repository" ] ||
    fail 64 "usage: ${0##*/} RECIPE|FILE.yaml, or GOLDSMITH_REPOSITORY and GOLDSMITH_PATH"
[ -z "$recipe" ] || [ -z "$repository$path$ref" ] ||
    fail 64 "a recipe is named ($recipe), and GOLDSMITH_REPOSITORY, GOLDSMITH_PATH or GOLDSMITH_REF is set: one of the two"
[ -z "$repository" ] || [ -n "$path" ] || fail 64 "GOLDSMITH_PATH is not set: which file of $repository is the recipe?"
for tool in curl jq; do command -v "$tool" >/dev/null || fail 1 "$tool is needed and is not installed"; done
[ -n "${GOLDSMITH_URL:-}" ] || fail 1 "GOLDSMITH_URL is not set: where is the API?"
[ -n "${GOLDSMITH_API_KEY:-}" ] || fail 1 "GOLDSMITH_API_KEY is not set: give a key, or the job's token"
url=${GOLDSMITH_URL%/}
run=${GOLDSMITH_RUN:-${GITHUB_RUN_ID:+github-$GITHUB_RUN_ID-${GITHUB_RUN_ATTEMPT:-1}-${GITHUB_JOB:-}}}
run=${run:-${CI_JOB_ID:+gitlab-$CI_JOB_ID}}
run=${run:-$(date +%s)-$$-$RANDOM}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# The key goes through a pipe: on the command line everybody on this machine could read it.
call() {
    local status said
    : >"$work/answer"  # an answer without a body would leave the last one there
    status=$(curl --silent --show-error --retry 6 --retry-connrefused --retry-max-time 120 --max-time 60 \
        --header @<(printf 'Authorization: Bearer %s\n' "$GOLDSMITH_API_KEY") \
        --output "$work/answer" --write-out '%{http_code}' "$@") || fail 1 "$url does not answer"
    case $status in
        2??) ;;
        *) said=$(jq -r 'select(.title) | "\(.title): \(.detail)" + (if .hint then " (\(.hint))" else "" end)' \
            "$work/answer" 2>/dev/null) || said=
            fail 1 "${said:-$url answered $status: is there a Goldsmith API at this address?}" ;;
    esac
}

parameters=$(jq -cn --arg lines "${GOLDSMITH_PARAMETERS:-}" '
    [$lines | splits("\r?\n") | select(test("\\S")) | capture("^\\s*(?<key>[^=\\s]+)=(?<value>.*)$") // error]
    | if (unique_by(.key) | length) < length then error else from_entries end' 2>/dev/null) ||
    fail 64 "GOLDSMITH_PARAMETERS: each line is NAME=VALUE, and each name comes once"
case $recipe in
    *[./]*)
        [ -r "$recipe" ] || fail 1 "$recipe cannot be read"
        [ "$parameters" = '{}' ] ||
            fail 64 "a file is sent as it is: \`goldsmith build FILE -p NAME=VALUE\` fills it in, or GOLDSMITH_REPOSITORY names it"
        type=application/yaml; cp -- "$recipe" "$work/body" ;;
    *)
        type=application/json
        jq -cn --arg recipe "$recipe" --arg repository "$repository" --arg ref "$ref" --arg path "$path" \
            --argjson parameters "$parameters" '{$recipe, $repository, $ref, $path, $parameters}
                | with_entries(select(.value != "" and .value != {}))' >"$work/body" ;;
esac
# With what is asked for: the jobs of a matrix have one number, and build different things.
run=$(printf '%s' "$run-$(cksum <"$work/body")" | tr -c 'A-Za-z0-9._-' '-')
run=${run:$((${#run} > 200 ? ${#run} - 200 : 0))}  # its end: `${run: -200}` of a shorter one is empty
call --header "Idempotency-Key: $run" --header "Content-Type: $type" --data-binary "@$work/body" "$url/v1/builds"
id=$(jq -r .id "$work/answer")
printf 'goldsmith: build %s of %s\n' "$id" "$(jq -r .recipe "$work/answer")"

after=0 pause=0
while :; do
    # The build first: once it has ended its log is whole, so an empty page then is the last.
    call "$url/v1/builds/$id?wait=$pause"
    ended=$(jq -r .finishedAt "$work/answer")
    call --header 'Accept: application/json' "$url/v1/builds/$id/logs?after=$after"
    jq -r '.lines[] | "\(.step): \(.text)"' "$work/answer"
    after=$(jq -r --argjson after "$after" '.lines[-1].number // $after' "$work/answer")
    if [ "$(jq -r '.lines | length' "$work/answer")" -gt 0 ]; then
        pause=0
    else
        [ "$ended" = null ] || break
        pause=1
    fi
done

call "$url/v1/builds/$id"
state=$(jq -r .state "$work/answer")
if [ "$state" != released ]; then
    fail 2 "build $id is $state: $(jq -r '.problem | "\(.title): \(.detail)" + (if .hint then " (\(.hint))" else "" end)' "$work/answer")"
fi
for file in "${GITHUB_OUTPUT:-}" "${GOLDSMITH_OUTPUT:-}"; do
    [ -z "$file" ] || jq -r '.result | "digest=\(.digest)", "reference=\(.reference)"' "$work/answer" >>"$file"
done
printf 'goldsmith: released %s\n' "$(jq -r .result.reference "$work/answer")"
