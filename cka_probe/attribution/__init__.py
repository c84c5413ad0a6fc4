"""What in an image a prediction comes from: Grad-CAM of classes, labels and depth, at any layer of any model."""
