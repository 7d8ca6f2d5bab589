"""The smallest client of a mesh: ``python examples/bookinfo/call_reviews.py FOLDER [USER]``.

FOLDER is any folder of Istio YAML in which a service ``reviews`` listens on port 9080, such as the one that
``meshlib demo bookinfo`` prints while its page is up. Prints the version that answered and why it was chosen.
"""

from __future__ import annotations

import sys

import meshlib


def main(folder: str, user: str = "") -> None:
    me = meshlib.Workload("productpage-v1", labels={"app": "productpage", "version": "v1"})
    headers = {"end-user": user} if user else {}
    with meshlib.Mesh.from_path(folder, watch=False, workload=me) as mesh, mesh.client() as client:
        response = client.get("http://reviews:9080/reviews/0", headers=headers)
        decision = response.extensions["mesh"]
        print(f"{response.status_code} from {decision.endpoint} (subset {decision.subset or 'none'})")
        print(f"decided by {decision.resource or 'the default route'}, rule {decision.rule}")
        print(response.json().get("version", response.text))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(*sys.argv[1:])
