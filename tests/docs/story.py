"""What is asked in the docs' failure investigation, and what the answers have to say."""

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """says: a paragraph before it. rows: patterns of lines that its answer must have sooner or later. lost: a node that dies first, unseen.

    disk: it is about the small disk, which only root can make.
    """

    says: str
    command: str
    rows: tuple[str, ...] = ()
    lost: str | None = None
    disk: bool = False

    def lacking(self, answer: str) -> list[str]:
        """Rows that the answer does not have."""
        lines = answer.splitlines()
        return [row for row in self.rows if not any(re.match(row, line) for line in lines)]


STORY = (
    Step(
        "Somebody says that models are missing. Trouble is on top:",
        "kubectl localmodel status",
        (
            r"llama +Stalled +0/3, 3 failed +0% +AccessDenied ",
            r"mistral +Stalled +0/3 +0% +NoSpace ",
            r"old-model +Ready +3/3 +100% +crc32$",
        ),
    ),
    Step(
        "## Bad credentials\n\nWhy does `llama` fail?",
        "kubectl localmodel explain llama",
        (
            r"llama is stalled for \d+s \(AccessDenied\): 0 of 3 copies available; gpu-1, gpu-2, gpu-3: ",
            r"- It wants s3://models/llama \(500 MiB declared\) ",
            r"- 3 nodes \(gpu-1, gpu-2, gpu-3\) failed: AccessDenied\. ",
            r"  What you can do: Give the cache credentials ",
        ),
    ),
    Step(
        "The source says no to all three nodes, so it is not a node. Which credentials does the cache use?",
        "kubectl get localmodelcache llama -o jsonpath='{.spec.serviceAccountName}{\"\\n\"}'",
        (r"s3-reader$",),
    ),
    Step(
        "The keys in its Secret have no right to read the bucket. With the right ones in the file:",
        "kubectl apply -f s3-reader-mended.yaml",
        (r"secret/s3-reader configured$",),
    ),
    Step(
        "Agents look again by themselves, so nothing else need be done:",
        "kubectl localmodel wait llama --timeout 90s && kubectl get localmodelcache llama -o wide",
        (r"llama +True +3/3 +0 +100% .* Available$",),
    ),
    Step(
        "## No space in the group\n\nWhy does `mistral` wait?",
        "kubectl localmodel explain mistral",
        (
            r"mistral is stalled for \d+s \(NoSpace\): 0 of 3 copies available; gpu-1, gpu-2, gpu-3: needs 2\.0 GiB; ",
            r"- On 3 nodes \(gpu-1, gpu-2, gpu-3\) it is Pending \(NoSpace\): ",
            r"  What you can do: kubectl localmodel explain mistral says how much is short",
        ),
    ),
    Step(
        "What is on such a node?",
        "kubectl localmodel node gpu-1",
        (
            r"gpu-1  Ready  agent ",
            r"llama +Downloaded +Published +1\.0 MiB +100% +crc32 ",
            r"old-model +Downloaded +Published +1\.0 MiB +100% +crc32 ",
            r"\S+ ago +NoSpace +cache mistral needs 2\.0 GiB; ",
        ),
    ),
    Step(
        "Is there anything that nobody uses?",
        "kubectl localmodel gc --dry-run",
        (r"old-model +3\.0 GiB +3 +3\.0 MiB ", r"llama +500 MiB +3 +3\.0 MiB "),
    ),
    Step(
        "No service runs here, so all are listed. The owner of `old-model` agrees that it may go:",
        "kubectl delete localmodelcache old-model",
        (r'localmodelcache\.serving\.kserve\.io "old-model" deleted',),
    ),
    Step(
        "`mistral` is placed as soon as the last node has confirmed that the bytes are gone:",
        "kubectl localmodel wait mistral --timeout 90s && kubectl get localmodelcache mistral -o wide",
        (r"mistral +True +3/3 +0 +100% .* Available$",),
    ),
    Step(
        "## A full disk\n\nOn the small machine at the edge `phi` is still missing. The group has enough left for what `phi` declares:",
        "kubectl localmodel explain phi edge-1",
        (
            r"phi on edge-1 is Failed\.$",
            r"- The model is on the node's work list\.$",
            r"- The state is Failed \(InsufficientStorage\): needs 20\.0 MiB",
            r"  What you can do: kubectl localmodel node edge-1 shows what fills the disk",
        ),
        disk=True,
    ),
    Step(
        "It was declared with 4 MiB, and its source holds five times as much. The agent looks before it writes: no byte was moved.\n"
        "What fills the disk?",
        "kubectl localmodel node edge-1",
        (
            r"Disk  \S+  \d+% of 32\.0 MiB: models 16\.0 MiB, ",
            r"phi +Failed +InsufficientStorage +20\.0 MiB +0% ",
            r"whisper +Downloaded +Published +16\.0 MiB +100% +crc32 ",
        ),
        disk=True,
    ),
    Step(
        "Nobody needs `whisper` there any more:",
        "kubectl delete localmodelcache whisper",
        (r'localmodelcache\.serving\.kserve\.io "whisper" deleted',),
        disk=True,
    ),
    Step(
        "The copy goes on by itself; that its source is larger than declared stays to be seen:",
        "kubectl localmodel wait phi --timeout 90s && kubectl get localmodelcache phi -o wide",
        (r"phi +True +1/1 +0 +100% +4Mi ",),
        disk=True,
    ),
    Step(
        "## A dead node\n\nLater `mistral` is not Ready any more, although nobody changed anything:",
        "kubectl get localmodelcache mistral -o wide",
        (r"mistral +False +2/3 +0 .* NodeNotReady$",),
        lost="gpu-3",
    ),
    Step(
        "Which node is it?",
        "kubectl localmodel status mistral",
        (
            r"Reconciling: NodeNotReady, 2 of 3 copies available; gpu-3: the node is not Ready$",
            r"gpu-3 +Downloaded +NodeNotReady ",
            r"gpu-1 +Downloaded +Published +100% +crc32 ",
            r"gpu-2 +Downloaded +Published +100% +crc32 ",
        ),
    ),
    Step(
        "The copy was complete; the node itself is lost:",
        "kubectl localmodel explain mistral gpu-3 && kubectl get nodes gpu-3",
        (
            r"- Node gpu-3 is not Ready\.$",
            r"- The state is Downloaded \(NodeNotReady\): the node is not Ready\.",
            r"  What you can do: kubectl describe node gpu-3 says why\.",
            r"gpu-3 +NotReady ",
        ),
    ),
    Step(
        "The machine will not come back. Without its Node object it is no longer counted:",
        "kubectl delete node gpu-3",
        (r'node "gpu-3" deleted',),
    ),
    Step(
        "All is well:",
        "kubectl get localmodelcache",
        (r"llama +True +2/2 +0 +100% ", r"mistral +True +2/2 +0 +100% "),
    ),
)  # fmt: skip
