"""What of an encoder stays as it is while its head learns.

Freezing an encoder is two things: its parameters get no gradient, and its batch norms neither count the images they
see nor normalise by them. With the second alone the encoder learns on; the released code of Depth-to-Semantic does
that under the name of freezing, so that both are here.
"""

from cka_probe.models.backbone import Backbone

FREEZES = {
    "": "everything learns",
    "encoder": "the encoder's parameters and the statistics of its batch norms stay",
    "statistics": "its batch norms normalise by their statistics, which stay; its parameters learn",
}


def frozen(backbone: Backbone, freeze: str) -> Backbone:
    """Return the backbone with that of it frozen which `freeze`, in `FREEZES`, says.

    A frozen encoder is in evaluation mode, and stays so: nothing in training calls `train` on it.
    """
    if freeze:
        backbone.eval()
    if freeze == "encoder":
        backbone.requires_grad_(False)
    return backbone
